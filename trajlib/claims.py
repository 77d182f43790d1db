"""Every claim of `magvit_comparison.md`, the analysis this course grew from, and the papers' claims that we test.

A claim names the figures that decide it and a rule that reads them. So a verdict follows from the results file, from a
check of the library in notebook 09, or from a paper that is cited; where a number decides, no verdict is written down.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from trajlib.report import MISSING, Evidence, beside, notebook_link, with_interval

VERDICTS = ("confirmed", "refuted", "corrected", "undecided", MISSING, "not yet tested")
MAGVIT = "MAGVIT, CVPR 2023, arXiv 2212.05199"
MAGVIT2 = "MAGVIT-v2, ICLR 2024, arXiv 2310.05737"
FSQ = "FSQ, arXiv 2309.15505"

Entry = dict[str, Any]


@dataclass(frozen=True)
class Claim:
    """`said` in our words; `where` it stands; `figures` that decide, in the order in which `rule` takes them.

    Without a rule it is not tested yet, and `by` names the notebook that will. `note` says what is right, and whence.
    """

    said: str
    where: str
    figures: tuple[str, ...] = ()
    rule: Callable[..., str] | None = None
    note: str = ""
    by: str = ""


def verdict(claim: Claim, evidence: Evidence) -> str:
    """One of `VERDICTS`."""
    if claim.rule is None:
        return "not yet tested"
    if any(name not in evidence for name in claim.figures):
        return MISSING
    return claim.rule(*(evidence[name] for name in claim.figures))


# ---- rules: entries of the results file -> a verdict ----


def bounds(entry: Entry) -> tuple[float, float]:
    """The interval of a figure; without one, the figure twice."""
    return tuple(entry["interval"] or (entry["value"], entry["value"]))


def _decide(low: float, high: float, otherwise: str = "refuted") -> str:
    """Whether a quantity known to lie in [low, high] is positive."""
    return "confirmed" if low > 0 else otherwise if high <= 0 else "undecided"


def above(bound: float) -> Callable[[Entry], str]:
    """The whole interval lies above `bound`."""
    return lambda e: _decide(bounds(e)[0] - bound, bounds(e)[1] - bound)


def below(bound: float) -> Callable[[Entry], str]:
    return lambda e: _decide(bound - bounds(e)[1], bound - bounds(e)[0])


def far_above_baseline(e: Entry) -> str:
    """More than half-way from the figure's baseline to its ceiling; being above the baseline corrects the claim."""
    half_way, any_way = above((e["baseline"] + e["ceiling"]) / 2)(e), above_baseline(e)
    if half_way == "refuted":
        return "corrected" if any_way == "confirmed" else any_way
    return half_way


def by_all(rule: Callable[[Entry], str]) -> Callable[..., str]:
    """The same by every measure; measures that disagree leave it undecided."""

    def judge(*entries: Entry) -> str:
        said = {rule(e) for e in entries}
        return said.pop() if len(said) == 1 else "undecided"

    return judge


def any_gain(*entries: Entry) -> str:
    """One of them lies above 0."""
    said = [above(0)(e) for e in entries]
    return next((word for word in ("confirmed", "undecided") if word in said), "refuted")


def above_baseline(e: Entry) -> str:
    """The whole interval lies above the figure's own baseline."""
    return MISSING if e["baseline"] is None else above(e["baseline"])(e)


def higher(a: Entry, b: Entry, margin: float = 0.0) -> str:
    """a > b - margin, by intervals that do not overlap."""
    (a_low, a_high), (b_low, b_high) = bounds(a), bounds(b)
    return _decide(a_low - b_high + margin, a_high - b_low + margin)


def lower(a: Entry, b: Entry) -> str:
    return higher(b, a)


def highest(first: Entry, *others: Entry) -> str:
    """The first is higher than each of the others."""
    said = {higher(first, other) for other in others}
    return "refuted" if "refuted" in said else "undecided" if "undecided" in said else "confirmed"


def faster_by(times: float) -> Callable[..., str]:
    """All ratios of speeds are so high; if only some are above 1, that corrects the claim."""

    def rule(*ratios: Entry) -> str:
        if all(e["value"] >= times for e in ratios):
            return "confirmed"
        return "corrected" if any(e["value"] > 1 for e in ratios) else "refuted"

    return rule


def costs_at_most(margin: float) -> Callable[[Entry, Entry], str]:
    """a is at most `margin` below b."""
    return lambda a, b: higher(a, b, margin)


def exactly(value: float, otherwise: str = "corrected") -> Callable[[Entry], str]:
    """The figure is `value`, or `value` lies in its interval."""
    return lambda e: "confirmed" if bounds(e)[0] <= value <= bounds(e)[1] else otherwise


def share_of_ceiling(least: float) -> Callable[[Entry], str]:
    return lambda e: MISSING if not e["ceiling"] else _decide(*(2 * [e["value"] / e["ceiling"] - least]))


def only_chance(chance: float, slack: float) -> Callable[[Entry], str]:
    """What was said to tell the class tells nothing: that corrects the claim."""
    return lambda e: "corrected" if abs(e["value"] - chance) <= slack else "undecided"


def beats_at_fewer_bits(
    bits: Entry, other_bits: Entry, quality: Entry, other_quality: Entry, error: Entry, other_error: Entry
) -> str:
    """No more bits, a higher quality and no larger error. Fewer bits and a lower quality cannot be compared."""
    if bits["value"] > other_bits["value"] or error["value"] > other_error["value"]:
        return "undecided"
    return _decide(
        bounds(quality)[0] - other_quality["value"], bounds(quality)[1] - other_quality["value"], "undecided"
    )


def alone_or_planned(rule: Callable[[Entry], str]) -> Callable[[Entry, Entry], str]:
    """What the transformer does alone; if only a planner before it makes the rule hold, that corrects the claim."""

    def judge(alone: Entry, planned: Entry) -> str:
        helped = rule(alone) != "confirmed" and rule(planned) == "confirmed"
        return "corrected" if helped else rule(alone)

    return judge


def holds(e: Entry, otherwise: str = "corrected") -> str:
    """A check came out true."""
    return "confirmed" if e["value"] else otherwise


def told_first(a: Entry, b: Entry, least: float = 0.05) -> str:
    """a is told, by at least a twentieth of a bit, and more of it than of b; otherwise that corrects the claim."""
    return "corrected" if higher(a, b) == "refuted" else above(max(a["baseline"] or 0, 0) + least)(a)


def by_one_or_by_two(one: Entry, two: Entry, least: float = 0.05) -> str:
    """One code tells it; when it takes two in succession, that corrects the claim; when two do not, it is refuted."""
    told = [above(max(e["baseline"] or 0, 0) + least)(e) for e in (one, two)]
    return "confirmed" if told[0] == "confirmed" else "corrected" if told[1] == "confirmed" else told[1]


def by_all_together(one: Entry, read: Entry, shuffled: Entry, least: float = 0.05) -> str:
    """One code tells it; when only all tokens of a clip do, which a reader of shuffled ones shows, that corrects it."""
    if above(max(one["baseline"] or 0, 0) + least)(one) == "confirmed":
        return "confirmed"
    return "corrected" if higher(read, shuffled) == "confirmed" else higher(read, shuffled)


def is_so(*_: Entry) -> str:
    """By the paper that the note cites."""
    return "confirmed"


def is_otherwise(*_: Entry) -> str:
    """By the paper that the note cites, and the figures beside it."""
    return "corrected"


# ---- the claims ----

SUMMARY, WHAT, FEATURES = "Executive Summary", "What MAGVIT Actually Is", "MAGVIT Key Features"
EXPERIMENT, LIBRARY, SHORT = "What We Actually Implemented", "Installed Library", "Key Differences"
WHY, WITHOUT, INCLUDES = "What MAGVIT Would Provide", "Why We Achieved 92.5 %", "What the Library Includes"
RECIPE, END, GOALS = "What We Would Need to Add", "Conclusion", "The experiment's goals"

CLAIMS = (
    # -- what MAGVIT is
    Claim("MAGVIT is a masked generative video transformer, Google Research, 2023", WHAT, (), is_so, MAGVIT),
    Claim(
        "it encodes video into discrete tokens by vector quantization with a learned codebook", WHAT, (), is_so,
        "MAGVIT, section 3.1; our tokenizer rounds to a fixed grid instead (FSQ)",
    ),
    Claim(
        "it compresses in space and in time", WHAT, (), is_so,
        "MAGVIT: 16×128×128 pixels become 4×16×16 tokens; ours: 16×64×64 become 8×4×4",
    ),
    Claim(
        "typically by 16×16×2 = 512 times", WHAT, (), is_otherwise,
        "MAGVIT: a stride of 4×8×8 = 256 positions a token; its appendix D.1 counts 614.4 times in bits",
    ),
    Claim(
        "the transformer works on tokens, and they can be predicted from one another", WHAT,
        ("transformer bits per token", "transformer unigram bits"), lower,
        "fewer bits per hidden token than token frequencies alone allow",
    ),
    Claim("it is trained by masked prediction, like BERT", WHAT, (), is_so, "MAGVIT, section 3.2"),
    Claim(
        "its attention runs both ways through space and time", WHAT, ("check/attention both ways",), holds,
        "checked above: a change of the last token moves the prediction of the first",
    ),
    Claim("training has two stages, the tokenizer and then the transformer", WHAT, (), is_so, "MAGVIT; 02 and 05"),
    Claim(
        "a third training phase generates videos", WHAT, (), is_otherwise,
        "generation is decoding; nothing is trained",
    ),
    Claim(
        "its codebook has 262,144 entries", FEATURES, (), is_otherwise,
        "MAGVIT: 1,024. 262,144 = 2^18 is MAGVIT-v2's, with lookup-free quantization",
    ),
    Claim(
        "reconstruction reaches a PSNR above 30 dB in the paper", FEATURES, (), is_otherwise,
        "MAGVIT, table 14: 22.0 dB on UCF-101, the largest model",
    ),
    Claim("a tokenizer of this kind exceeds 30 dB on our clips", FEATURES, ("tokenizer psnr",), above(30)),
    Claim(
        "30 dB is near-perfect", FEATURES, ("world/blank psnr", "tokenizer position error median"), is_otherwise,
        "on white paper a frame with no dot has almost as much: judge by where the dot is",
    ),
    Claim(
        "it generates videos of the class it is asked for", FEATURES,
        ("generation class agreement", "planned class agreement"), alone_or_planned(far_above_baseline),
        "judged by an independent I3D: hardly above chance alone; a planner before it makes it so",
    ),
    Claim(
        "the videos are novel, not remembered", FEATURES, ("generation copies", "generation novelty"),
        lambda copies, _: below(0.1)(copies),
        "so many come nearer to a training clip than 95 % of fresh clips do; of the fresh ones, 5 %",
    ),
    Claim(
        "it generates autoregressively", FEATURES, ("check/decoding passes",), is_otherwise,
        "MAGVIT, section 3.2 and table 6: it does not, which is its point; all tokens in about 12 parallel passes",
    ),
    Claim(
        "75 % of the tokens are masked in training", FEATURES, ("check/mean share masked",), is_otherwise,
        "the share is drawn anew for each clip from a cosine schedule; its mean is 2/π",
    ),
    # -- the experiment and its library
    Claim(
        "the experiment held no MAGVIT: no tokenizer, codebook, quantization or transformer", SUMMARY, (), is_so,
        "its public repository (mkn9/liquid_mono_to_3d) says the same in its own history",
    ),
    Claim(
        "magvit2-pytorch is the real MAGVIT of the paper", LIBRARY, ("check/MagViT2 has parameters",), holds,
        "an independent version of MAGVIT-v2's tokenizer; its class MagViT2 is an empty shell, no transformer",
    ),
    Claim(
        "VideoTokenizer takes image_size=(64, 64)", LIBRARY, ("check/tuple image_size works",), holds,
        "an int; a tuple is accepted, and fails when the first video comes",
    ),
    Claim(
        "the layers shown there (three residual ones) compress", LIBRARY, ("check/residual layers compress",), holds,
        "they give one code per pixel; `compress_space` and `compress_time` layers do it",
    ),
    Claim(
        "videos go in as (batch, time, channels, height, width)", LIBRARY,
        ("check/time before channels works",), holds, "(batch, channels, time, height, width)",
    ),
    Claim(
        "encode returns (codes, loss)", LIBRARY, ("check/encode returns codes",), holds,
        "one tensor of floats, not quantized; unpacking it splits a batch of two. Codes come from `tokenize`",
    ),
    Claim(
        "decode takes the codes", LIBRARY, ("check/decode takes codes",), holds,
        "it takes quantized vectors; `decode_from_code_indices` takes codes",
    ),
    Claim("it has lookup-free and finite scalar quantization", INCLUDES, ("check/has LFQ and FSQ",), holds),
    Claim(
        "it has vector quantization with a learned codebook", INCLUDES, ("check/has a learned codebook",), holds,
        "only LFQ and FSQ, whose codebooks are fixed",
    ),
    Claim("it has a commitment loss and an entropy loss", INCLUDES, ("check/has LFQ losses",), holds, "for LFQ only"),
    Claim(
        "it has a multi-scale discriminator over time", INCLUDES, ("check/has a multi-scale discriminator",), holds,
        "one that looks at single frames; multi-scale ones are to be brought along",
    ),
    Claim(
        "it has a VGG perceptual loss", INCLUDES, ("check/has VGG loss",), holds,
        "version 0.5.1 runs it with dropout on",
    ),
    Claim("it has flash attention", INCLUDES, ("check/has flash attention",), holds),
    Claim("it has a gradient penalty", INCLUDES, ("check/has gradient penalty",), holds),
    Claim("it can encode the first frame on its own", INCLUDES, ("check/has separate first frame",), holds),
    Claim("it trains in mixed precision", INCLUDES, ("check/has mixed precision",), holds, "through accelerate"),
    Claim(
        "the discriminator makes reconstructions more realistic", INCLUDES,
        ("ablation/adversary gain", "ablation/adversary_motion gain"), any_gain,
        "one that sees frames, and one that sees motion; realistic is read as more dB where the dot is",
    ),
    Claim(
        "its gradient penalty helps", INCLUDES,
        ("ablation/adversary_no_penalty gain", "ablation/adversary_no_penalty gain, whole picture"),
        by_all(below(-0.05)), "what leaving it out gains: it would have to lose a twentieth of a dB",
    ),
    Claim(
        "the perceptual loss keeps what a clip means", INCLUDES, ("ablation/perceptual gain",), above(0),
        "with features of a network trained on these clips; read as more dB where the dot is",
    ),
    Claim("encoding the first frame on its own helps", INCLUDES, ("ablation/frames_17_separate gain",), above(0)),
    Claim("flash attention makes it faster", INCLUDES, ("ablation/flash speed-up",), above(1), "on a CPU"),
    Claim(
        "mixed precision makes it faster", INCLUDES, ("ablation/bf16 speed-up",), above(1),
        "on a CPU with bfloat16; what it costs in dB stands beside it",
    ),
    # -- the table of differences
    Claim(
        "MAGVIT is large, the 3D CNN small", SHORT, ("check/transformer parameters", "check/3D CNN parameters"), is_so,
        "MAGVIT: 128 to 464 million with the tokenizer; for one dot less is enough",
    ),
    # -- what MAGVIT would provide
    Claim(
        "196,608 values become 512 times fewer: 384 tokens", WHY, ("check/tokens per clip",), exactly(384),
        "512 counts positions, not colour values: 16·64·64 / 512",
    ),
    Claim("512 times fewer positions", WHY, ("compression positions",), exactly(512)),
    Claim(
        "so the representation is 512 times smaller", WHY, ("compression bits",), exactly(512),
        "size is bits, and a token is about ten of them",
    ),
    Claim(
        "it is more efficient than raw pixels, for the same quality", WHY, ("compression bits", "tokenizer psnr"),
        is_otherwise, "far fewer bits, and not the same quality; raw pixels are no rival, real codecs are",
    ),
    Claim(
        "the codes are learned features of motion", WHY, ("code bits direction", "code bits place"), told_first,
        "bits, held out, that a code saves about which way the dot moves, beside where in its cell it is",
    ),
    Claim(
        "codebook entries stand for common patterns of motion", WHY,
        ("code bits direction", "two codes bits direction"), by_one_or_by_two,
        "what one code does not tell of the direction, two in succession may",
    ),
    Claim(
        "it creates new trajectories: samples obey the asked equation", WHY,
        ("generation physics agreement", "planned physics agreement"), alone_or_planned(far_above_baseline),
        "the transformer alone does not; told a plan of the way first, it does",
    ),
    Claim(
        "samples hold one whole dot, like real clips", WHY, ("generation dot present", "planned dot present"),
        alone_or_planned(above(0.9)), "in more than nine of ten: not from the class alone, but along a plan",
    ),
    Claim(
        "tokens generalize better", WHY,
        ("followed in tokens few labels accuracy", "followed in pixels few labels accuracy"), higher,
        "from 160 labels: the dot is followed in tokens or in pixels, and the same classifier sees its path",
    ),
    Claim(
        "tokens are robust, invariant to small variations of pixels", WHY,
        ("small damages that tokens survive",), share_of_ceiling(0.99),
        "a little noise, blur, darkness, or less contrast: a transformer on tokens loses no clips beyond luck",
    ),
    Claim(
        "tokens hold the meaning of a motion", WHY,
        ("code bits class", "token_classifier accuracy", "token_classifier shuffled accuracy"), by_all_together,
        "the class: of a single code, and of all tokens of a clip to a classifier",
    ),
    # -- 92.5 %
    Claim(
        "the 3D CNN knows 92.5 % of the clips", WITHOUT, ("simple_3dcnn accuracy", "check/accuracy of 37 of 40"),
        lambda cnn, _: exactly(0.925)(cnn),
        "that was the best epoch on 40 clips; the interval of 37 right out of 40 is shown second",
    ),
    Claim(
        "the 3D CNN is sufficient for this task", WITHOUT, ("simple_3dcnn accuracy", "oracle accuracy test"),
        costs_at_most(0.01), "against what geometry alone can know",
    ),
    Claim(
        "its success rests on distinctive patterns of motion", WITHOUT,
        ("world/cheat/path length in space (mean speed)",), only_chance(0.25, 0.03),
        "there, speed and turns gave the class away; here they tell nothing, and the 3D CNN's figure is of this set",
    ),
    Claim(
        "even dots clipped to the corners keep the pattern", WITHOUT, ("check/dots inside the picture",), is_otherwise,
        "a dot at the border has lost its path; here the whole dot is inside every frame",
    ),
    Claim(
        "200 clips are enough because the task is easy", WITHOUT,
        ("followed in pixels few labels accuracy",), above(0.925),
        "160 are, for a linear classifier that is shown the dot's path",
    ),
    Claim(
        "tokens reach more than 95 %", WITHOUT, ("contest network on tokens accuracy", "contest tokens accuracy"),
        lambda _, followed: above(0.95)(followed),
        "with 160 labels: not a network that learns from them alone; equations, laid through the dot read from tokens",
    ),
    Claim(
        "tokens handle the complexity of the real world better", WITHOUT,
        ("damages that cost tokens less than pixels",), above_baseline,
        "of nine kinds of damage: the networks' lead over chance; no film of the real world was tried",
    ),
    Claim(
        "tokens allow generation, not only classification", WITHOUT,
        ("generation class agreement", "planned class agreement"), alone_or_planned(far_above_baseline),
        "with a transformer on top, and of what is asked only along a plan; the tokenizer alone makes nothing",
    ),
    # -- what would need to be added
    Claim(
        "decode(encode(video)) and a squared error train the tokenizer", RECIPE, ("check/encode returns codes",), holds,
        "the library's encode does not quantize unless asked: this loop trains an autoencoder without codes",
    ),
    Claim(
        "a codebook of 512 is enough for this task", RECIPE, ("ablation/fsq_512 gain",), above(-0.5),
        "at most half a dB less than 1,000 codes, early in training",
    ),
    Claim(
        "a classifier on tokens reads the tokens", RECIPE,
        ("token_classifier accuracy", "token_classifier shuffled accuracy"), higher,
        "with tokens shuffled between clips it must fall to chance",
    ),
    Claim(
        "tokens instead of pixels raise the accuracy, 92.5 % to 95–98 %", END,
        ("token_classifier accuracy", "simple_3dcnn accuracy"), higher, "the same labelled clips, the same test clips",
    ),
    Claim(
        "the folder's name promised I3D; it would be a strong rival", END,
        ("i3d accuracy", "token_classifier accuracy"), higher, "of the transformer on tokens, from the same labels",
    ),
    Claim("the folder's name promised a language model; there were template texts", END, by="08_language"),
    # -- the goals behind it
    Claim(
        "the motion can be classified from images at more than 95 %", GOALS,
        ("contest pixels accuracy", "simple_3dcnn accuracy"), lambda best, _: above(0.95)(best),
        "from 160 labels, by equations laid through the dot seen in pixels; not by the 3D CNN of that experiment",
    ),
    Claim(
        "the next 4 to 8 frames can be forecast", GOALS,
        ("forecast from 8 gain", "planned forecast from 8 gain", "planned forecast from 8 error"),
        lambda alone, planned, _: alone_or_planned(above(0))(alone, planned),
        "8 frames from 8, nearer than the best of three extrapolations: not by the transformer alone, but along a plan",
    ),
    Claim(
        "the equation of the motion can be recovered", GOALS, ("equation parameters from tokens",),
        share_of_ceiling(0.99), "from tokens, without labels: parameters of which at least half is explained",
    ),
    Claim("the motion can be described in words", GOALS, by="08_language"),
    Claim(
        "a mean PSNR of 24.99 dB shows that the tokenizer works", "Later, in its repository", ("tokenizer psnr blank",),
        below(24.99), "a frame with no dot at all has more",
    ),
    # -- papers
    Claim(
        "a codebook of about a thousand is enough for 30 dB", MAGVIT, ("tokenizer psnr", "tokenizer codes used"),
        lambda psnr, used: above(30)(psnr) if (used["ceiling"] or 0) <= 1100 else "undecided",
        "ours has more codes than that; fewer were tried for a few minutes only",
    ),
    Claim(
        "practically every code is in use", FSQ, ("tokenizer codes used",),
        lambda used: "confirmed" if share_of_ceiling(0.99)(used) == "confirmed" else "undecided",
        "more than 99 %; so many occur in these clips, and more in more clips",
    ),
    Claim(
        "12 decoding steps are enough", MAGVIT, ("generation uncorrected dot present", "generation dot present"),
        costs_at_most(0.05), "one whole dot in at most five points fewer clips than with corrections after them",
    ),
    Claim(
        "the cosine schedule is the best one", MAGVIT,
        tuple(f"generation schedule {name} dot present" for name in ("cosine", "linear", "square", "root")), highest,
        "by how many clips show one whole dot; without corrections",
    ),
    Claim(
        "the surest tokens are to be settled first", MAGVIT,
        ("generation surest first dot present", "generation evenly spread dot present"), higher,
        "against an order that looks at nothing and is spread evenly; the surest token is white paper",
    ),
    Claim(
        "one model learns ten tasks (COMMIT)", MAGVIT, ("tasks that read their condition", "tasks better than trivial"),
        lambda read, _: share_of_ceiling(0.95)(read),
        "each reads what it is given; second, in how many it comes nearer than straight lines between what is seen",
    ),
    Claim(
        "masked decoding makes better clips than autoregression", MAGVIT,
        ("generation physics agreement", "autoregressive physics agreement"), higher,
        "a decoder of the same size over the same tokens",
    ),
    Claim(
        "and it is some 60 times faster", MAGVIT,
        ("parallel over autoregressive speed, one clip", "parallel over autoregressive speed, a batch"), faster_by(60),
        "there with 1,024 tokens, here with 128; 12 steps against a decoder with a cache, on two CPU cores",
    ),
    Claim(
        "reading tokens instead of pixels costs a classifier about a point", MAGVIT2,
        ("token_classifier accuracy", "simple_3dcnn accuracy"), costs_at_most(0.02), "at most two points here",
    ),
    Claim(
        "a larger codebook reconstructs better with lookup-free quantization", MAGVIT2,
        ("ablation/lfq_2x512 gain",), above(0), "262,144 codes in two books of 512, against one book of 512",
    ),
    Claim(
        "lookup-free quantization beats vector quantization for large codebooks", MAGVIT2,
        ("ablation/lfq_4096 over vq_4096", "ablation/lfq_4096 over vq_4096, whole picture"), by_all(above(0)),
        "4,096 codes each, early in training, by dB of the whole picture and where the dot is",
    ),
    Claim(
        "tokens beat video codecs at equal bits", MAGVIT2,
        ("tokenizer bits per clip", "codec fewest bits", "tokenizer psnr beside codecs",
         "codec best psnr at fewest bits", "tokenizer position error beside codecs",
         "codec best position error at fewest bits"),
        beats_at_fewer_bits,
        "no codec works at so few; at its fewest, one places the dot better, and with more bits all do far better",
    ),
)  # fmt: skip


def table(claims: list[Claim], evidence: Evidence) -> str:
    """Markdown, one row per claim: verdict, figures with their floors and ceilings, where it is shown."""
    lines = ["| claim | verdict | figures | shown in |", "|---|---|---|---|"]
    for claim in claims:
        shown = [name for name in claim.figures if name in evidence]
        figures = "<br>".join(_figure(name, evidence[name]) for name in shown)
        stems = sorted({evidence[name]["notebook"] for name in shown} | ({claim.by} if claim.by else set()))
        said = claim.said + (f"<br>*{claim.note}*" if claim.note else "")
        links = ", ".join(f"{stem[:2]}, to come" if stem == claim.by else notebook_link(stem) for stem in stems)
        lines.append(f"| {said} | **{verdict(claim, evidence)}** | {figures} | {links} |")
    return "\n".join(lines)


def _figure(name: str, entry: Entry) -> str:
    text = f"{name.removeprefix('check/')}: {with_interval(name, entry)}"
    words = {"baseline": "floor", "ceiling": "ceiling"}
    return "; ".join([text, *(beside(name, entry, key, words[key]) for key in words if entry.get(key) is not None)])
