// The token explorer: look a token up, and edit it.

function canvas(model, el) {
  const fixed = model.get("fixed"), { box, send, shown, queued } = shell(model, el);
  let wanted = model.get("view").selected; // the selection here; Python may be some selections behind
  const pick = (t, y, x) => { wanted = [t, y, x]; redraw(); send({ do: "select", t, y, x }); };
  const videos = player(model, fixed.panels, { onFrame: redraw, onPick: pick });
  const codes = maps(fixed, pick);
  const clip = number("clip", 0, fixed.clips - 1, "tl-clip");
  clip.addEventListener("change", () => send({ do: "choose", clip: Number(clip.value) }));
  const other = number("another clip, to copy tokens from", (model.get("view").clip + 1) % fixed.clips, fixed.clips - 1, "tl-other");
  const code = h("input", { type: "text", class: "tl-code", "aria-label": "a token to put here", title: "a token, by its number (with several codebooks: numbers with a dot between them)" });
  const put = () => send({ do: "put", name: code.value });
  code.addEventListener("keydown", (event) => { event.stopPropagation(); if (event.key === "Enter") put(); });
  const undo = button("undo", "undo", "undo the last change", () => send({ do: "undo" })), reset = button("reset", "reset", "back to the clip's own tokens", () => send({ do: "reset" }));
  const levels = h("div", { class: "tl-row tl-levels", style: "gap: 3px 4px" }), about = h("span");
  const facts = h("div", { style: "flex: 0 0 270px" }), seen = h("div", { style: "flex: 1 1 300px" }), similar = h("div");
  const plane = fixed.map && codeMap(fixed.map, fixed, (row) => send({ do: "replace", token: fixed.map.tokens[row] }));
  const strip = h("canvas", { class: "tl-strip", role: "img", width: fixed.frames * (fixed.size + 1) - 1, height: fixed.size,
    style: "width: 832px; height: 52px", title: "effect of your changes, frame by frame" });
  const shares = h("div", { class: "tl-shares tl-hint" });
  box.append(
    h("div", { class: "tl-row" }, h("label", {}, "clip ", clip), about, ...videos.controls),
    h("div", { class: "tl-row tl-top" }, ...videos.videos,
      h("div", { class: "tl-column", style: "flex: 1 1 250px" }, h("div", { class: "tl-row" }, h("span", { class: "tl-title" }, "Change this token"), undo, reset), levels,
        h("div", { class: "tl-row" }, h("label", {}, "token ", code), button("put", "put here", "replace the selected token by this one", put)),
        h("div", { class: "tl-row", style: "column-gap: 8px" }, h("label", {}, "copy from clip ", other),
          button("take", "token", "copy its token in the same position", () => send({ do: "copy_token", clip: Number(other.value) })),
          button("take-frame", "frame", "copy all its tokens of the same frames", () => send({ do: "copy_frame", clip: Number(other.value) }))))),
    codes.node,
    h("figure", {}, strip, shares),
    ...tabs([
      ...(plane ? [["map", "map of the codebook", "all tokens in use; a click puts one into the selected position", plane.node]] : []),
      ["facts", "this token", "how often and where the selected token occurs", h("div", { class: "tl-row tl-top" }, facts, seen)],
      ["similar", "similar tokens", "tokens with a similar patch or code, to put in its place", similar]]));
  let lastPosition = null;

  function redraw() {
    const view = model.get("view"), now = Math.floor(videos.frame() / fixed.frames * fixed.grid[0]);
    const fill = view.shade.map((rows) => rows.map((row) => row.map((value) => fixed.luts.frequency[value])));
    codes.draw({ text: view.text, fill, mark: view.changed }, wanted, now, view.label);
    videos.outline(wanted);
    videos.captions(view.captions);
  }
  function item(entry, data, i) {
    const cell = [fixed.frames / fixed.grid[0], fixed.size / fixed.grid[1], fixed.size / fixed.grid[2]];
    const size = 3 * cell[0] * cell[1] * cell[2];
    return h("button", { title: entry.title, "aria-label": entry.title, "data-code": entry.label,
      onclick: () => send(entry.message) }, patch(data, i * size, cell), entry.label);
  }
  function drawToken(view) {
    const bits = view.levels.every(({ top }) => top === 1);
    levels.replaceChildren(...(view.levels.length ? [h("span", { class: "tl-hint" }, bits ? "bits (click to flip)" : `level indices, from 0 to ${view.levels.map(({ top }) => top).join(", ")}`)] : []), ...view.levels.map(({ name, value, top }, dimension) => {
      const step = (by, text, verb) => h("button", { "aria-label": `${verb} ${name}`, title: `${verb} ${name} (${value}, from 0 to ${top})`, "data-level": `${dimension}${by > 0 ? "+" : "-"}`,
        onclick: () => send({ do: "step", dimension, by }) }, text);
      const steps = top === 1 ? [step(1, String(value), "flip")] : [step(-1, "−", "lower"), step(1, "+", "raise")];
      return top === 1 ? steps[0] : h("span", { class: "tl-level" }, steps[0], h("b", { title: `${name}: ${value}, from 0 to ${top}` }, String(value)), steps[1]);
    }));
    const most = Math.max(1, ...view.classes.map((row) => row.count));
    facts.replaceChildren(h("div", { class: "tl-title" }, view.title), ...view.facts.map((fact) => h("div", {}, fact)),
      h("div", { class: "tl-hint" }, "occurrences by class of the clip"),
      h("div", { class: "tl-bar" }, ...view.classes.flatMap(({ name, count, colour }) => [h("span", {}, name),
        h("div", { style: `width:${Math.round(90 * count / most)}px;background:${colour}` }), h("span", {}, String(count))])),
      h("div", { class: "tl-hint" }, "occurrences by position in the grid"), whereMap(view.where));
    const data = bytes(model.get("patches"));
    let i = 0;
    const [first, ...others] = view.galleries.map(({ title, hint, items }) => [h("div", {}, h("span", { class: "tl-title" }, title), " ", h("span", { class: "tl-hint" }, hint)),
      h("div", { class: "tl-items" }, ...items.map((entry) => item(entry, data, i++)))]);
    seen.replaceChildren(...first);
    similar.replaceChildren(...others.flat());
  }
  function whereMap(counts) { // small maps, darker where the token occurs more often
    const [nt, nh, nw] = fixed.grid, cell = 8, wide = nw * cell + 4, most = Math.max(1, ...counts.flat(2));
    const canvas = h("canvas", { width: nt * wide, height: nh * cell, role: "img", "aria-label": "how often in each position of the grid" });
    const g = canvas.getContext("2d");
    for (let t = 0; t < nt; t++) for (let y = 0; y < nh; y++) for (let x = 0; x < nw; x++) {
      g.fillStyle = css(fixed.luts.heat[Math.round(255 * counts[t][y][x] / most)]);
      g.fillRect(t * wide + x * cell, y * cell, cell - 1, cell - 1);
    }
    return canvas;
  }
  function drawStrip() {
    const data = bytes(model.get("videos").change), lut = fixed.luts.heat, g = strip.getContext("2d");
    const one = h("canvas", { width: fixed.size, height: fixed.size });
    for (let frame = 0; frame < fixed.frames; frame++) {
      paint(one, data, frame, fixed.size, lut);
      g.drawImage(one, frame * (fixed.size + 1), 0);
    }
  }
  function update() {
    const view = model.get("view"), position = view.selected.join();
    if (!queued("select")) wanted = view.selected;
    if (position !== lastPosition) videos.go(view.selected[0] * fixed.frames / fixed.grid[0]); // show the frames of a new selection
    lastPosition = position;
    videos.draw();
    redraw();
    drawToken(view);
    drawStrip();
    if (plane) plane.show(view.row);
    if (document.activeElement !== clip) clip.value = view.clip;
    if (document.activeElement !== code) code.value = view.token;
    if (Number(other.value) === view.clip) other.value = (view.clip + 1) % fixed.clips;
    about.textContent = view.about;
    shares.textContent = view.shares;
    strip.setAttribute("aria-label", `effect of the changes, frame by frame: ${view.shares}`);
    undo.disabled = !view.history;
    reset.disabled = !view.history;
    shown();
  }
  return { update, close: videos.close };
}
