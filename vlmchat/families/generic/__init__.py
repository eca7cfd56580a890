"""Any other checkpoint that Transformers runs natively from pictures and text, through its own processor and template.

Proven are the architectures of :data:`vlmchat.families.generic.config.SUPPORTED`; all others are refused by name.
"""
