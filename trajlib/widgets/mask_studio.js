// The mask studio: choose what is observed, and watch the rest being predicted.

function canvas(model, el) {
  const fixed = model.get("fixed"), { box, send, shown, queued } = shell(model, el);
  const videos = player(model, fixed.panels, { onFrame: redraw });
  const each = (cells, act) => cells.map((rows) => rows.map((row) => row.map(act)));
  const colours = Object.fromEntries(Object.entries(fixed.states).map(([name, colour]) => [name, rgb(colour)]));
  let cursor = null, draft = null, stroke = null; // draft: the mask as painted here; Python may be some strokes behind

  const { amount, choice, fill } = settings(fixed, send);
  const about = h("span"), summary = h("span", { class: "tl-summary tl-hint", style: "flex: 1 1 300px" });
  const own = button("unpaint", "the task's mask", "discard what is painted", () => send({ do: "unpaint" }));

  // the mask: a click or a drag paints, and so do the arrows with space
  const mask = maps(fixed, (t, y, x) => { cursor = [t, y, x]; redraw(); }, 20);
  mask.canvas.classList.add("tl-mask");
  mask.canvas.style.touchAction = "none";
  const observed = () => draft || model.get("view").observed;
  function brush([t, y, x]) {
    if (observed()[t][y][x] === stroke.observed) return;
    draft = each(observed(), (value) => value);
    draft[t][y][x] = stroke.observed;
    stroke.cells.push([t, y, x]);
    redraw();
  }
  function begin(position) {
    const [t, y, x] = position;
    stroke = { observed: !observed()[t][y][x], cells: [] };
    brush(position);
  }
  function end() {
    if (stroke) send({ do: "paint", cells: stroke.cells, observed: stroke.observed });
    stroke = null;
  }
  mask.canvas.addEventListener("pointerdown", (event) => {
    const position = mask.at(event);
    if (!position || event.button) return;
    mask.canvas.setPointerCapture(event.pointerId);
    begin(position);
  });
  mask.canvas.addEventListener("pointermove", (event) => { const position = stroke && mask.at(event); if (position) brush(position); });
  mask.canvas.addEventListener("pointerup", end);
  mask.canvas.addEventListener("pointercancel", end);
  mask.canvas.addEventListener("keydown", (event) => {
    if (event.key !== " " && event.key !== "Enter") return;
    event.preventDefault();
    event.stopPropagation();
    cursor = cursor || [0, 0, 0];
    begin(cursor);
    end();
  });

  // the steps
  const tokens = maps(fixed, null), confidence = maps(fixed, null, 20);
  tokens.canvas.classList.add("tl-tokens");
  confidence.canvas.classList.add("tl-confidence");
  const step = h("input", { type: "range", class: "tl-step", min: 0, "aria-label": "step of decoding", title: "step of decoding", style: "width: 124px", oninput: () => go(Number(step.value)) });
  const back = button("back", "◀ step", "one step back", () => go(Number(step.value) - 1)), on = button("on", "step ▶", "one step on", () => go(Number(step.value) + 1));
  const where = h("span", { style: "min-width: 100px" });
  function go(to) {
    const within = Math.min(model.get("view").last, Math.max(0, to));
    step.value = within;
    send({ do: "go", step: within });
  }
  const key = h("div", { class: "tl-row" }, ...Object.entries(fixed.states).map(([name, colour]) =>
    h("span", {}, h("span", { style: `color:${colour}` }, "■ "), name)), h("span", {}, "◤ changed in this step"));
  const bar = h("canvas", { width: 256, height: 1 }), g = bar.getContext("2d");
  fixed.luts.frequency.forEach((colour, i) => { g.fillStyle = css(colour); g.fillRect(i, 0, 1, 1); });
  const title = (text, hint) => h("span", {}, h("span", { class: "tl-title" }, text), " ", h("span", { class: "tl-hint" }, hint));

  box.append(
    h("div", { class: "tl-row" }, amount("clip", "clip", "number of the clip"), about,
      choice("task", "task", "what is observed, and how the rest is filled before it is tokenized"),
      amount("frames", "observed frames", "first frames that are observed")),
    h("div", { class: "tl-row" }, title("Mask", "click or drag; or arrows and space"), own,
      button("all", "observe all", "all tokens are observed", () => send({ do: "fill", observed: true })),
      button("none", "mask all", "no token is observed", () => send({ do: "fill", observed: false })), summary),
    mask.node,
    h("div", { class: "tl-row" }, choice("label", "class", "class that the transformer is conditioned on"),
      amount("guidance", "guidance", "strength of the class: 0 ignores it, 1 is the model as trained"), amount("steps", "steps", "decoding steps"),
      amount("resampling_steps", "resampling steps", "Gibbs resampling steps after decoding"),
      amount("temperature", "temperature", "of the sampling: below 1 likelier tokens, above 1 more varied ones"), amount("seed", "seed", "of the random numbers", 60)),
    h("div", { class: "tl-row" }, choice("order", "order", "which tokens are unmasked first"),
      choice("refine", "observed are", "whether observed tokens are predicted again in their turn"),
      button("decode", "decode", "predict all tokens, step by step", () => send({ do: "decode" })), ...videos.controls),
    h("div", { class: "tl-row tl-top" }, ...videos.videos, h("div", { class: "tl-column", style: "flex: 1 1 130px" },
      h("span", { class: "tl-title" }, "Step of decoding"), where, step, h("div", { class: "tl-row" }, back, on))),
    ...tabs([
      ["tokens", "tokens", "the tokens after this step", h("div", { class: "tl-column" }, key, tokens.node)],
      ["confidence", "confidence", "how probable the model found each token", h("div", { class: "tl-column" }, h("div", { class: "tl-row" }, h("span", { class: "tl-hint" }, "probability of the token in each position, in %"),
        h("div", { class: "tl-legend", style: "width: 320px" }, h("div", { class: "tl-row" }, fixed.least, bar, "1"))), confidence.node)]]));

  function redraw() {
    const view = model.get("view"), now = Math.floor(videos.frame() / fixed.frames * fixed.grid[0]), cells = observed();
    const count = cells.flat(2).filter(Boolean).length, none = each(cells, () => false);
    const at = cursor ? `; selected: frames from ${cursor[0] * fixed.frames / fixed.grid[0]}, row ${cursor[1]}, column ${cursor[2]}, `
      + (cells[cursor[0]][cursor[1]][cursor[2]] ? "observed" : "masked") : "";
    mask.draw({ text: each(cells, (value) => (value ? "" : "?")), fill: each(cells, (value) => colours[value ? "observed" : "masked"]), mark: none },
      cursor, now, `the mask: ${count} of ${cells.flat(2).length} cells observed${at}`);
    tokens.draw({ text: view.tokens.text, fill: each(view.tokens.state, (name) => colours[name]), mark: view.tokens.fresh }, null, now, view.label);
    confidence.draw({ text: view.confidence.text, fill: each(view.confidence.value, (value) => (value < 0 ? colours.masked : fixed.luts.frequency[value])), mark: none },
      null, now, `probability of each token after ${view.step_name}`);
    videos.captions(view.captions);
  }
  function update() {
    const view = model.get("view");
    if (!stroke && !queued("paint")) draft = null;
    videos.draw();
    redraw();
    fill(view);
    own.disabled = !view.painted;
    about.textContent = view.about;
    summary.textContent = view.summary;
    step.max = view.last || view.total;
    if (!queued("go")) step.value = view.step;
    step.disabled = !view.last;
    back.disabled = view.step === 0;
    on.disabled = view.step === view.last;
    where.textContent = view.last ? `${view.step_name} (${view.step} of ${view.total})` : "not decoded yet";
    shown();
  }
  return { update, close: videos.close };
}
