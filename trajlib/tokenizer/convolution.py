"""Convolutions that are as fast for one clip as for many."""

import torch
from torch import Tensor, nn


class Conv3d(nn.Conv3d):
    """torch's, but a single clip in float32 takes the CPU kernel of oneDNN, as several clips do.

    For one small clip torch chooses a kernel of its own, two to five times slower (`ConvParams::use_mkldnn`).
    """

    def _conv_forward(self, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        plain = x.device.type == "cpu" and x.dtype == weight.dtype == torch.float32
        if len(x) > 1 or not plain or torch.is_autocast_enabled("cpu") or not torch.backends.mkldnn.is_available():
            return super()._conv_forward(x, weight, bias)
        shape = self.padding, self.stride, self.dilation, self.groups
        return torch.ops.aten.mkldnn_convolution(x, weight, bias, *shape)


def use_fast_convolutions(module: nn.Module) -> None:
    """Let every 3D convolution in it compute as `Conv3d` does; weights stay as they are."""
    for part in module.modules():
        if type(part) is nn.Conv3d:
            part.__class__ = Conv3d
