"""Names of what can be chosen for a latent diffusion model. Imports no torch."""

BUILT = ("text", "cfg", "gt1-cfg", "gt-cfg")
"""The sampling modes of the paper (Appendix A), in its order; the last is the default."""

TOKEN_CHOICES = ("lexical", "disease", "all", "start", "end")
"""Which tokens' maps are averaged (paper, section 2.2, Appendix B and Table 3)."""

BBM = ("none", "linear", "quadratic", "mixture")
"""Bimodal Bias Merging (paper, section 2.3, Eq. 2 to 4)."""

LATENTS = ("sample", "mode")
"""What of the image's VAE posterior is noised: a fresh sample (the paper) or its mode."""

PROFILES = ("paper", "released")
"""The paper, or what its released code does otherwise."""

PRECISIONS = ("float32", "float16", "bfloat16")
"""What the U-Net computes in; maps are summed in float32 always."""
