"""A local folder in, tokens out: loading, caches, prefill, decode, all behind one event stream."""
