"""The quality of generated images: distances to real images in the features of a network, diversity, and copies."""
