"""What MAGVIT adds to the squared error: a discriminator, and the features of a network.

The library has both, and neither works there for these clips: its perceptual loss is a VGG16 in training mode, its
discriminators of whole videos are never called (they would need `multiscale_discrs`, whose loss is a mean of pixels),
and the weight of the adversarial loss is only adapted where VGG is in use.
"""

import torch
from magvit2_pytorch.magvit2_pytorch import Discriminator, gradient_penalty, hinge_discr_loss, hinge_gen_loss
from torch import nn

from trajlib.data.clips import VideoSpec


class FrameDiscriminator(nn.Module):
    """The library's discriminator on one random frame of each clip: (b, 3, size, size) -> logits (b,).

    Two narrow heads of its linear attention, not 16: at 32 x 32 they cost ten times what the tokenizer does.
    """

    def __init__(self, spec=VideoSpec(), dim=4, max_dim=32):  # noqa: B008 (it is frozen)
        super().__init__()
        narrow = {"linear_attn_heads": 2, "linear_attn_dim_head": 4}
        self.net = Discriminator(dim=dim, image_size=spec.size, channels=3, max_dim=max_dim, **narrow)

    def view(self, videos):
        """Clips (b, 3, t, h, w) -> the part that is classified: (b, 3, h, w)."""
        frames = torch.randint(videos.shape[2], (len(videos),), device=videos.device)
        return videos[torch.arange(len(videos)), :, frames]

    def forward(self, frames):
        return self.net(1 - frames)  # the background is 0, so that white margins weigh nothing


class CropDiscriminator(nn.Module):
    """A few convolutions on small pictures: (b, 3, size, size) -> logits (b,).

    The library's discriminator has no kernel for the gradient penalty of 16 x 16 pixels: torch 2.14.1 aborts. He's
    initialization: with torch's, the signal of a small dot fades.
    """

    def __init__(self, spec=VideoSpec(size=16), dim=32):  # noqa: B008 (it is frozen)
        super().__init__()
        self.net = nn.Sequential(  # shapes for 16 x 16
            nn.Conv2d(3, dim, 3, padding=1),  # (b, dim, 16, 16)
            nn.LeakyReLU(0.1),
            nn.Conv2d(dim, 2 * dim, 4, stride=2, padding=1),  # (b, 2 dim, 8, 8)
            nn.LeakyReLU(0.1),
            nn.Conv2d(2 * dim, 2 * dim, 4, stride=2, padding=1),  # (b, 2 dim, 4, 4)
            nn.LeakyReLU(0.1),
            nn.Flatten(),
            nn.Linear(2 * dim * (spec.size // 4) ** 2, 64),
            nn.LeakyReLU(0.1),
            nn.Linear(64, 1),
            nn.Flatten(0),
        )
        for layer in self.net:
            if hasattr(layer, "weight"):
                nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
                nn.init.zeros_(layer.bias)

    def view(self, pictures):
        """All of them."""
        return pictures

    def forward(self, pictures):
        return self.net(1 - pictures)


DISCRIMINATORS = {"frames": FrameDiscriminator, "crops": CropDiscriminator}


class Adversary:
    """A discriminator with its own optimizer, trained alongside the tokenizer whose reconstructions it classifies.

    Hinge losses, and the library's gradient penalty on real and decoded clips (MAGVIT, appendix B.1: R1). `weight` is
    multiplied, unless `adaptive` is off, by the ratio of the gradients of reconstruction and adversarial loss at the
    decoder's last layer (VQGAN, arXiv 2012.09841, eq. 7): both then have gradients of one size. The adversarial loss
    is 0 until step `start`; the discriminator learns from the beginning.
    """

    def __init__(self, kind="frames", weight=0.1, penalty=10.0, adaptive=True, start=0, lr=5e-4, spec=VideoSpec()):  # noqa: B008
        self.discriminator = DISCRIMINATORS[kind](spec).train()
        self.optimizer = torch.optim.Adam(self.discriminator.parameters(), lr=lr, betas=(0.0, 0.99))
        self.weight, self.penalty, self.adaptive, self.start = weight, penalty, adaptive, start
        self.steps = 0

    def learn(self, real, fake):
        """One step of the discriminator on clips (b, 3, t, h, w) and their reconstructions; returns its hinge loss."""
        self.discriminator.to(real.device)
        views = [self.discriminator.view(x.detach()).requires_grad_(self.penalty > 0) for x in (real, fake)]
        of_real, of_fake = (self.discriminator(view) for view in views)
        hinge = hinge_discr_loss(of_fake, of_real)
        loss = hinge
        if self.penalty:
            loss = loss + self.penalty * (gradient_penalty(views[0], of_real) + gradient_penalty(views[1], of_fake))
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()
        self.steps += 1
        return hinge.detach()

    def generator_loss(self, fake, reconstruction, last_layer):
        """The tokenizer's part: weight * -(mean logit of its reconstructions `fake`), a scalar with a gradient.

        `reconstruction` is the rest of its loss, `last_layer` the decoder's last weights.
        """
        if self.steps < self.start:
            return fake.new_zeros(())
        loss = hinge_gen_loss(self.discriminator(self.discriminator.view(fake)))
        if not self.adaptive:
            return self.weight * loss
        norms = [torch.autograd.grad(part, last_layer, retain_graph=True)[0].norm() for part in (reconstruction, loss)]
        return self.weight * (norms[0] / norms[1].clamp_min(1e-3)).clamp_max(1e3) * loss


class PerceptualLoss(nn.Module):
    """Distance between videos in the features of a frozen network (Johnson et al., arXiv 1603.08155).

    `stages` follow one another; after each, the squared difference of the features is taken as a share of the true
    features' square, and these shares are averaged. `prepare` turns videos (b, 3, t, h, w) into the first one's input.
    """

    def __init__(self, stages, prepare):
        super().__init__()
        self.stages = nn.ModuleList(stages).requires_grad_(False).eval()
        self.prepare = prepare

    def forward(self, videos, recon):
        features, loss = self.prepare(torch.cat([videos, recon])), 0.0
        for stage in self.stages:
            features = stage(features)
            true, found = features.chunk(2)
            loss = loss + ((found - true) ** 2).mean() / true.square().mean().clamp_min(1e-8)
        return loss / len(self.stages)


def perceptual_from_cnn(network):
    """`PerceptualLoss` of a `Simple3DCNN`: the features after each of its poolings, of whole clips."""
    layers = network.features
    return PerceptualLoss([layers[first : first + 3] for first in (0, 3, 6)], lambda videos: 1 - videos)


def perceptual_from_vgg():
    """`PerceptualLoss` of torchvision's VGG16, trained on photographs, on one random frame of the clips.

    Downloads half a gigabyte once; ConnectionError, in one sentence, where that is not possible.
    """
    from torchvision.models import VGG16_Weights, vgg16

    try:
        layers = vgg16(weights=VGG16_Weights.IMAGENET1K_V1).features
    except OSError as error:
        raise ConnectionError(
            f"VGG16's weights cannot be downloaded ({error}): go online, or take perceptual_from_cnn."
        ) from None
    mean, spread = (torch.tensor(x).reshape(1, 3, 1, 1) for x in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)))

    def one_frame(videos):
        frame = torch.randint(videos.shape[2], ()).item()
        return (videos[:, :, frame] - mean) / spread

    return PerceptualLoss([layers[:4], layers[4:9], layers[9:16]], one_frame)
