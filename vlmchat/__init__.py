"""vlmchat: chat with open vision-language models in the terminal, on your own machine.

Importing the package imports nothing else, so every room of the house stays cheap to enter.
"""

__version__ = "0.1.0"
