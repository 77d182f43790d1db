"""One clip alone takes the fast kernel, and gets the numbers of torch's convolution."""

import pytest
import torch
from torch import nn
from torch.profiler import ProfilerActivity, profile

from trajlib.classify.readers import Simple3DCNN
from trajlib.tokenizer.convolution import Conv3d, use_fast_convolutions
from trajlib.tokenizer.video_tokenizer import Tokenizer
from trajlib.zoo.config import TINY_LAYERS

SHAPES = [{}, {"padding": 1}, {"stride": (1, 2, 2)}, {"dilation": 2, "bias": False}, {"groups": 4}]


@pytest.mark.parametrize("clips", [1, 2])
@pytest.mark.parametrize("options", SHAPES)
def test_values_and_gradients_are_those_of_torch(options, clips):
    torch.manual_seed(0)
    plain, fast = nn.Conv3d(8, 12, 3, **options), nn.Conv3d(8, 12, 3, **options)
    fast.load_state_dict(plain.state_dict())
    use_fast_convolutions(fast)
    assert type(fast) is Conv3d
    results = []
    for conv in (plain, fast):
        x = torch.ones(clips, 8, 6, 10, 10).cumsum(-1).div(10).requires_grad_()
        y = conv(x)
        (y * y).sum().backward()
        results.append([y, x.grad, conv.weight.grad])
    for one, other in zip(*results, strict=True):
        torch.testing.assert_close(other, one, atol=1e-3, rtol=1e-4)


def test_bfloat16_stays_torchs_own():
    conv = Conv3d(4, 4, 3)
    with torch.autocast("cpu", torch.bfloat16):
        assert conv(torch.rand(1, 4, 5, 5, 5)).dtype == torch.bfloat16


@pytest.mark.skipif(not torch.backends.mkldnn.is_available(), reason="torch was built without oneDNN")
@pytest.mark.parametrize("clips", [1, 2])
def test_no_convolution_of_a_clip_takes_the_slow_kernel(clips):
    tokenizer, classifier = Tokenizer(dim=8, layers=TINY_LAYERS), Simple3DCNN()
    videos = torch.rand(clips, 3, 16, 64, 64)
    with torch.no_grad(), profile(activities=[ProfilerActivity.CPU]) as seen:
        tokenizer.decode(tokenizer.encode(videos))
        classifier(videos)
    names = {event.key for event in seen.key_averages()}
    assert "aten::mkldnn_convolution" in names
    # with several clips torch takes its own for kernels of one pixel, where that is the faster
    assert clips > 1 or "aten::slow_conv3d_forward" not in names
