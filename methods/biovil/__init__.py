"""BioViL and its relatives: grounding by image-text similarity, without diffusion."""
