"""What the layers stand on and their user need not know: checks of arguments, modes of torch, padding, state dicts."""
