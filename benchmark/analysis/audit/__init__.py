"""Does a method ground, or does it look as if? Eight questions about one method, each with figures and a verdict."""
