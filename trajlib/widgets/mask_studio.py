"""The mask studio: choose or paint which tokens are observed, and watch a transformer predict the others."""

from dataclasses import dataclass

import numpy as np
import torch

from trajlib import plots
from trajlib.data.trajectories import FAMILIES
from trajlib.data.video_files import to_float
from trajlib.generation import tasks
from trajlib.generation.sampling import GUIDANCE, RESAMPLING_STEPS, decode_steps
from trajlib.generation.tasks import TASKS
from trajlib.widgets.base import Canvas, checked_number, script, stretched, to_bytes, video_bytes
from trajlib.widgets.interpolation_studio import fits_tokenizer

ORDERS = {"halton": "spread out (Halton)", "confidence": "most confident first"}
VEIL = 190  # of 255: the grey over what is not observed
LEAST = 1e-3  # the lowest probability of the colour scale


@dataclass(frozen=True)
class DecodingStep:
    """What one step of decoding leaves, all in the shape of the tokens, `tokenizer.token_shape`."""

    tokens: np.ndarray  # the mask token where masked; where observed, the condition's until it is predicted again
    prediction: np.ndarray  # tokens, and the likeliest where nothing is unmasked yet
    log_p: np.ndarray  # log-probability of each prediction, of an unmasked one when it was drawn; NaN if it never was
    unmasked: np.ndarray  # bool


class Decoding:
    """A clip, which of its tokens are observed, and the steps in which a transformer predicts the others.

    A task of `tasks.TASKS` says which tokens are observed, or a painted mask: then background replaces all unobserved
    cells. Every change of a setting, or of the mask, discards what was decoded. `clips` is a `Batch`; `settings` as in
    the constructor's dict. ValueError if transformer and tokenizer do not fit, or for a setting that cannot be.
    """

    def __init__(self, transformer, tokenizer, clips, class_names=FAMILIES, **settings):
        if not fits_tokenizer(transformer, tokenizer):
            raise ValueError(
                "This transformer was trained on the tokens of another tokenizer: their codebook sizes or grids differ."
            )
        self.transformer, self.tokenizer, self.clips, self.class_names = transformer, tokenizer, clips, class_names
        self.limits = {  # of the settings: lowest, highest, step of the control
            "clip": (0, len(clips) - 1, 1),
            "label": (0, len(class_names) - 1, 1),
            "frames": (1, tokenizer.spec.frames - 1, 1),
            "steps": (1, 32, 1),
            "resampling_steps": (0, 64, 1),
            "temperature": (0.1, 3.0, 0.1),
            "guidance": (0.0, 20.0, 0.5),
            "seed": (0, 2**31 - 1, 1),
        }
        self.settings = {
            "clip": 0, "task": "FP", "frames": 4, "label": 0, "steps": 12, "resampling_steps": 0, "temperature": 1.0,
            "guidance": GUIDANCE, "seed": 0, "order": "halton", "refine": True,
        }  # fmt: skip
        self.set(**{"clip": 0, "task": "FP"} | settings)

    # ---- what is observed ----

    def set(self, **settings):
        """Change settings by name. A task, or its number of frames, brings its mask; a clip, its class."""
        settings = {name: self._checked(name, value) for name, value in settings.items()}
        if "clip" in settings:
            settings = {"label": int(self.clips.labels[settings["clip"]])} | settings
        self.settings = self.settings | settings
        if {"task", "frames"} & set(settings):
            self.unpaint()
        else:
            self.restart()

    def _checked(self, name, value):
        """The value of a setting, or a ValueError that says what it can be."""
        choices = {"task": TASKS, "order": ORDERS, "refine": (True, False)}
        if name not in self.settings:
            raise ValueError(f"{name!r} is no setting; there are {', '.join(self.settings)}.")
        if name in choices:
            if value not in choices[name]:
                raise ValueError(f"{name} is {value!r}; it can be {', '.join(map(str, choices[name]))}.")
            return value
        return checked_number(name, value, self.limits[name])

    @property
    def task(self):
        """The task that the transformer is conditioned on."""
        return TASKS[self.settings["task"]]

    def unpaint(self):
        """The task's own mask."""
        key, frames = self.settings["task"], self.settings["frames"]
        self.painted = False
        self.observed = tasks.observed_tokens(key, self.tokenizer.grid, frames, self.tokenizer.spec).numpy()
        self.restart()

    def paint(self, cells, observed):
        """Make cells [(t, y, x), ...] observed, or masked."""
        index = np.array(cells, int).reshape(-1, 3)
        if (index < 0).any() or (index >= self.tokenizer.grid).any():
            raise ValueError(f"cells {cells} came; the grid is {self.tokenizer.grid}.")
        painted = self.observed.copy()
        painted[tuple(index.T)] = bool(observed)
        self.painted, self.observed = True, painted
        self.restart()

    def fill(self, observed):
        """Make all cells observed, or masked."""
        self.paint(np.argwhere(np.ones(self.tokenizer.grid, bool)), observed)

    @property
    def observed_tokens(self):
        """Which tokens are observed, in the shape of the tokens: a cell's tokens of all codebooks alike."""
        shape = self.tokenizer.token_shape
        return np.broadcast_to(self.observed.reshape(*self.observed.shape, *[1] * (len(shape) - 3)), shape)

    @property
    def video(self):
        """The clip: (1, 3, t, h, w) in [0, 1]."""
        return to_float(self.clips.videos[self.settings["clip"]][None])

    @property
    def region(self):
        """The observed pixels: (t, h, w) bool."""
        if not self.painted:
            return tasks.region(self.settings["task"], self.tokenizer.spec, self.settings["frames"])
        observed = torch.from_numpy(self.observed)
        for axis, size in enumerate(self.tokenizer.cell):
            observed = observed.repeat_interleave(size, axis)
        return observed

    # ---- decoding ----

    def restart(self):
        """Discard what was decoded: the condition's tokens, and nothing unmasked.

        `condition` is the video that is tokenized, (1, 3, t, h, w): it depends on the observed pixels alone.
        """
        self._run, self._videos = None, {}
        if self.painted:
            self.condition = tasks.fill_background(self.video, self.region)
        else:
            self.condition = tasks.condition(self.video, self.settings["task"], self.settings["frames"])
        start, observed = self.tokenizer.encode(self.condition)[0].numpy(), self.observed_tokens
        tokens = np.where(observed, start, self.transformer.mask_token)
        unknown = np.full(start.shape, np.nan)
        self.steps = [DecodingStep(tokens, start, unknown, observed & (not self.settings["refine"]))]

    def begin(self):
        """Start decoding with the settings as they are."""
        self.restart()
        names = ("steps", "resampling_steps", "temperature", "guidance", "seed", "task", "order", "refine")
        labels = [self.settings["label"]] if self.transformer.num_classes else None
        condition = torch.from_numpy(self.steps[0].prediction)[None]
        observed = torch.from_numpy(self.observed_tokens.copy())
        self._run = decode_steps(
            self.transformer, labels, condition=condition, observed=observed, callback=self._keep,
            **{name: self.settings[name] for name in names},
        )  # fmt: skip

    def _keep(self, unmasked, prediction, log_p):
        shape = self.tokenizer.token_shape
        unmasked, prediction, log_p = (x[0].unflatten(0, shape).numpy() for x in (unmasked, prediction, log_p))
        tokens = np.where(unmasked, prediction, self.steps[0].tokens)
        self.steps.append(DecodingStep(tokens, prediction, log_p, unmasked))

    @property
    def running(self):
        """Whether steps remain to be done."""
        return self._run is not None

    @property
    def total(self):
        """Number of steps to do, Gibbs resampling included."""
        return self.settings["steps"] + self.settings["resampling_steps"]

    @property
    def last(self):
        """Number of steps done."""
        return len(self.steps) - 1

    def work(self, steps=4):
        """Do the next few steps, so that the kernel can answer in between."""
        run, self._run = self._run, None
        for _ in range(min(steps, self.total - self.last) if run else 0):
            next(run)
        self._run = run if self.last < self.total else None

    def decode(self):
        """Do all steps; the tokens, in the shape of `tokenizer.token_shape`."""
        self.begin()
        while self.running:
            self.work()
        return self.steps[-1].tokens

    # ---- what is shown: arrays (t, h, w), a cell's codebooks together ----

    def video_after(self, step):
        """The prediction after a step, decoded; after none, the condition's tokens: (3, t, h, w) uint8."""
        if step not in self._videos:
            tokens = torch.from_numpy(self.steps[step].prediction)[None]
            self._videos[step] = to_bytes(self.tokenizer.decode(tokens)[0])
        return self._videos[step]

    def by_cell(self, values):
        """Values in the shape of the tokens -> (t, h, w, codebooks)."""
        return values.reshape(*self.tokenizer.grid, -1)

    def states(self, step):
        """The state of each cell after a step, a name of plots.TOKEN_STATES: (t, h, w)."""
        unmasked = self.by_cell(self.steps[step].unmasked).all(-1)
        again = "refined" if self.settings["refine"] else "observed"
        return np.select([unmasked & self.observed, unmasked, self.observed], [again, "unmasked", "observed"], "masked")

    def fresh(self, step):
        """Which cells were unmasked, or changed by resampling, in this very step: (t, h, w) bool."""
        before, now = self.steps[max(0, step - 1)], self.steps[step]
        return self.by_cell(now.unmasked & (~before.unmasked | (now.tokens != before.tokens))).any(-1)

    def step_name(self, step):
        """The name of a step: Gibbs resampling comes after the decoding steps."""
        steps = self.settings["steps"]
        return f"step {step}" if step <= steps else f"resampling step {step - steps}"

    def summary(self):
        """One sentence: what is observed, and what the transformer is conditioned on."""
        label = f"class {self.class_names[self.settings['label']]}" if self.task.labelled else "no class"
        mask = "a painted mask, background elsewhere" if self.painted else "the task's mask"
        count = f"{self.observed_tokens.sum()} of {self.observed_tokens.size} tokens observed"
        return f"{count} ({mask}); conditioned on: {self.task.name}, {label}."

    def picture(self):
        """The figure: condition, some steps, result, and the clip if any of it is observed. Decodes first if needed."""
        if self.last < self.total:
            self.decode()
        videos, states = {"condition": to_bytes(self.condition[0])}, {"condition": self.states(0)}
        steps = self.settings["steps"]
        shown = {-(-steps // 2), steps} if self.settings["resampling_steps"] else {-(-steps // 3), -(-2 * steps // 3)}
        for step in sorted(shown | {self.last}):
            title = "result" if step == self.last else f"step {step} of {steps}"
            videos[title], states[title] = self.video_after(step), self.states(step)
        if self.observed.any():
            videos["the clip"] = to_bytes(self.video[0])
        return plots.decoding_steps(videos, states)


class MaskStudio(Canvas):
    """Choose or paint what is observed, decode the rest, go through the steps. `decoding` is the plain object."""

    _esm = script("mask_studio")

    def __init__(self, decoding):
        self.decoding, self.step = decoding, decoding.last
        panels = [{"name": name} for name in ("observed", "condition", "prediction", "truth")]
        fixed = {
            "panels": [*panels, {"name": "difference", "lut": "heat"}],
            "numbers": decoding.limits,
            "choices": {
                "task": [[key, f"{key}: {task.name}"] for key, task in TASKS.items()],
                "label": [[i, name] for i, name in enumerate(decoding.class_names)],
                "order": [[key, name] for key, name in ORDERS.items()],
                "refine": [[True, "predicted again"], [False, "kept"]],
            },
            "states": plots.TOKEN_STATES,
            "least": f"1 in {1 / LEAST:,.0f}, or less",
        }
        spec = decoding.tokenizer.spec
        super().__init__("masks", fixed, spec.frames, spec.size, decoding.tokenizer.grid)

    # ---- what the browser asks for ----

    def do_set(self, name, value):
        self.decoding.set(**{name: value})

    def do_paint(self, cells, observed):
        self.decoding.paint(cells, observed)

    def do_fill(self, observed):
        self.decoding.fill(observed)

    def do_unpaint(self):
        self.decoding.unpaint()

    def do_decode(self):
        self.decoding.begin()
        self.do_continue()

    def do_continue(self):
        if self.decoding.running:
            self.decoding.work()
            self.step = self.decoding.last

    def do_go(self, step):
        if not 0 <= step <= self.decoding.last:
            raise ValueError(f"step {step} came; {self.decoding.last} are done.")
        self.step = int(step)

    # ---- what it shows ----

    def figure(self):
        return self.decoding.picture()

    def state(self):
        decoding, settings, done = self.decoding, self.decoding.settings, self.decoding.last
        step = self.step = min(self.step, done)
        truth, prediction = decoding.clips.videos[settings["clip"]].numpy(), decoding.video_after(step)
        compared = truth if decoding.observed.any() else prediction  # with nothing observed there is no one truth
        difference, most = stretched(np.abs(prediction.astype(np.int16) - compared).mean(0))
        states = decoding.states(step)
        counts = ", ".join(f"{(states == name).sum()} {name}" for name in plots.TOKEN_STATES)
        labelled = decoding.task.labelled
        view = {
            "settings": settings,
            "used": {"frames": settings["task"] in ("FP", "CFP"), "label": labelled, "guidance": labelled},
            "about": f"class {decoding.class_names[decoding.clips.labels[settings['clip']]]}",
            "observed": decoding.observed.tolist(),
            "painted": decoding.painted,
            "summary": decoding.summary(),
            "step": step,
            "last": done,
            "total": decoding.total,
            "tokens": self._tokens(states),
            "confidence": self._confidence(),
            "step_name": decoding.step_name(step),
            "label": f"tokens after {decoding.step_name(step)}: {counts}",
            "captions": self._captions(most),
            "status": self._status(),
            "more": decoding.running,
        }
        veiled = torch.where(decoding.region, decoding.video[0], VEIL / 255)
        still = {"observed": video_bytes(to_bytes(veiled)), "condition": video_bytes(to_bytes(decoding.condition[0]))}
        videos = {"prediction": video_bytes(prediction), "difference": difference.tobytes()}
        return {"still": still | {"truth": video_bytes(truth)}, "videos": videos, "view": view}

    def _status(self):
        decoding, settings = self.decoding, self.decoding.settings
        if decoding.running:
            return f"step {decoding.last} of {decoding.total} …"
        if not decoding.last:
            return "the mask is set: press decode"
        resampling = f" and {settings['resampling_steps']} resampling steps" if settings["resampling_steps"] else ""
        return f"done in {settings['steps']} steps{resampling}"

    def _tokens(self, states):
        """Texts, states and marks of the cells."""
        decoding = self.decoding
        tokens = decoding.by_cell(decoding.steps[self.step].prediction).tolist()
        text = [[["·".join(map(str, codes)) for codes in row] for row in rows] for rows in tokens]
        text = np.where(states == "masked", "?", np.array(text, object))
        return {"text": text.tolist(), "state": states.tolist(), "fresh": decoding.fresh(self.step).tolist()}

    def _confidence(self):
        """Probabilities of the predictions: per cent, and on a logarithmic scale from LEAST, 0, to 1, 255; -1: none."""
        log_p = self.decoding.by_cell(self.decoding.steps[self.step].log_p).sum(-1)
        p = np.exp(log_p)
        text = np.select([np.isnan(p), p < 0.01], ["", "<1"], np.char.mod("%.0f", 100 * np.nan_to_num(p)))
        value = 255 * (1 - log_p.clip(np.log(LEAST), 0) / np.log(LEAST))
        return {"text": text.tolist(), "value": np.nan_to_num(value, nan=-1).round().astype(int).tolist()}

    def _captions(self, most):
        clip, step, compare = self.decoding.settings["clip"], self.step, self.decoding.observed.any()
        rest = "background elsewhere" if self.decoding.painted else "the rest filled"
        return {
            "observed": "observed pixels" if compare else "nothing is observed",
            "condition": f"condition: {rest}",
            "prediction": f"prediction after {self.decoding.step_name(step)}" if step else "the condition, decoded",
            "truth": f"clip {clip}" if compare else f"clip {clip}: not asked for",
            "difference": f"error: prediction − clip, up to {most:.0f} of 255" if compare else "nothing to compare",
        }


def mask_studio(transformer, tokenizer, clips, **settings):
    """The studio on a `Batch` of clips, decoded to its end; `settings` as in `Decoding`."""
    decoding = Decoding(transformer, tokenizer, clips, **{"resampling_steps": RESAMPLING_STEPS} | settings)
    decoding.decode()
    return MaskStudio(decoding)
