"""How one blob gets here: engine.py moves the bytes, progress.py counts them."""
