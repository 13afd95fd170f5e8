"""The tiny U-Net that attention.npz was made with: SD 1.5's block structure, weights independent of any library's version.

build() returns it; its sha256 must equal attention.json's weights_sha256["unet"].
"""

import hashlib
import zlib

import numpy as np
import torch
from diffusers import UNet2DConditionModel

UNET_CONFIG = dict(
    sample_size=64,
    in_channels=4,
    out_channels=4,
    layers_per_block=2,
    block_out_channels=(32, 64, 64, 64),
    down_block_types=("CrossAttnDownBlock2D",) * 3 + ("DownBlock2D",),
    up_block_types=("UpBlock2D",) + ("CrossAttnUpBlock2D",) * 3,
    cross_attention_dim=64,
    attention_head_dim=8,
    norm_num_groups=8,
)


def build() -> tuple[UNet2DConditionModel, str]:
    """Return the U-Net and the sha256 of its parameters."""
    unet = UNet2DConditionModel(**UNET_CONFIG).eval().requires_grad_(False)
    digest = hashlib.sha256()
    for name, parameter in sorted(unet.named_parameters()):
        random = np.random.RandomState(zlib.crc32(f"unet:{name}".encode()) & 0xFFFFFFFF)
        values = random.standard_normal(tuple(parameter.shape))
        if parameter.ndim >= 2:
            values = values / np.sqrt(int(np.prod(parameter.shape[1:])))
            if "attn2" in name and name.endswith(("to_q.weight", "to_k.weight")):
                values = values * 1.7
        elif name.endswith("bias"):
            values = 0.1 * values
        else:
            values = 1 + 0.1 * values
        values = values.astype(np.float32)
        parameter.copy_(torch.from_numpy(values))
        digest.update(name.encode())
        digest.update(values.tobytes())
    return unet, digest.hexdigest()
