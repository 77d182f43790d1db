"""Milliseconds from an act to the new picture, in headless Chromium: a measurement, not a test. Let nothing else run.

    python tests/browser/latency.py [N]

Each studio is opened as `python -m trajlib explore` shows it. The time is that in the browser, from the message that is
sent to the picture that is drawn; `limit` is what a person should not notice, or not mind.
"""

import os
import sys

import labdrive
from studiopage import Studio, served

PLAIN, DECODED = 100, 500  # ms: what is looked up or painted; what is decoded


def key(studio, selector, *keys):
    return lambda i: studio.press(studio.page.locator(selector), keys[i % len(keys)])


def click(studio, *selectors):
    return lambda i: studio.page.locator(selectors[i % len(selectors)]).first.click()


def stroke(studio):
    def draw(i):
        box, mouse = studio.page.locator("canvas.tl-pad").bounding_box(), studio.page.mouse
        mouse.move(box["x"] + 100, box["y"] + 100 + i)
        mouse.down()
        mouse.move(box["x"] + 220, box["y"] + 160, steps=4)
        mouse.up()

    return draw


def direction(studio):
    def choose(i):
        clip = studio.page.locator(".tl-b")
        clip.fill(str(3 + i))
        clip.press("Enter")
        clip.blur()

    return choose


def transformer_step(studio):
    studio.answered(".tl", lambda: studio.page.locator(".tl-method").select_option("transformer"))
    return key(studio, ".tl-step", "ArrowRight", "ArrowLeft")


ACTS = [  # what is done, studio, how, limit
    ("move a slider", "trajectories", lambda s: key(s, ".tl-tilt", "ArrowRight", "ArrowLeft"), DECODED),
    ("choose a token", "tokens", lambda s: key(s, "canvas.tl-maps", "ArrowRight", "ArrowLeft"), PLAIN),
    ("change a token", "tokens", lambda s: click(s, "[data-level='0+']", "[data-level='0-']"), DECODED),
    ("paint a mask", "masks", lambda s: key(s, "canvas.tl-mask", "Space"), PLAIN),
    ("another pair of clips", "interpolation", direction, DECODED),
    ("a step by the transformer", "interpolation", transformer_step, DECODED),
    ("draw a path", "paths", stroke, DECODED),
    ("corrupt a clip", "corruptions", lambda s: key(s, ".tl-noise", "ArrowRight"), DECODED),
]


def measure(chromium, address, name, act, n):
    """Sorted milliseconds of `n` answers of a studio."""
    studio = Studio(chromium, address, name)
    do = act(studio)
    took = sorted(studio.answered(".tl", lambda i=i: do(i)) for i in range(n))
    studio.close()
    return took


def main(n=11):
    print(f"load of the machine before: {os.getloadavg()[0]:.1f}")
    with served() as address, labdrive.browser() as chromium:
        for what, name, act, limit in ACTS:
            took = measure(chromium, address, name, act, n)
            line = f"{what:26s} median {took[n // 2]:6.0f} ms, largest {took[-1]:6.0f} ms, n = {n}"
            print(f"{line}, limit {limit} ms{'' if took[n // 2] <= limit else '  exceeded'}", flush=True)


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
