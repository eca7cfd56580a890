"""From a hub's name to a local folder; in this version only what is on this machine already."""
