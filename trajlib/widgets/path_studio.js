// The path studio: draw a path, and see the clip that is decoded along it.

function canvas(model, el) {
  const fixed = model.get("fixed"), { box, send, shown, queued } = shell(model, el), { trajectory: blue, measured: red } = fixed.colours;
  const videos = player(model, fixed.panels, { onFrame: redraw }), { amount, fill } = settings(fixed, send);
  const side = 320 * (window.devicePixelRatio || 1);
  const pad = h("canvas", { class: "tl-pad", width: side, height: side, role: "img", tabindex: 0, style: "touch-action: none; cursor: crosshair" });
  let draft = null, drawing = false; // draft: the stroke as drawn here, until Python has answered it
  let pen = null; // of the keyboard: x, y in pixels

  function to(event) {
    const at = pad.getBoundingClientRect(), pixel = (value, low, length) => Number(((value - low) / length * fixed.size - 0.5).toFixed(2));
    draft.push([pixel(event.clientX, at.left, at.width), pixel(event.clientY, at.top, at.height)]);
    redraw();
  }
  pad.addEventListener("pointerdown", (event) => {
    if (event.button || !event.isPrimary) return;
    pad.setPointerCapture(event.pointerId);
    begin([]);
    pen = null;
    to(event);
  });
  pad.addEventListener("pointermove", (event) => { if (drawing && event.isPrimary) to(event); });
  pad.addEventListener("pointerup", (event) => {
    if (drawing && event.isPrimary) finish();
  });
  pad.addEventListener("pointercancel", cancel);
  pad.addEventListener("keydown", (event) => {
    const move = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] }[event.key];
    if (!move && ![" ", "Enter", "Escape"].includes(event.key)) return;
    event.preventDefault();
    event.stopPropagation();
    pen = pen || [Math.floor(fixed.size / 2), Math.floor(fixed.size / 2)];
    if (move) pen = pen.map((value, i) => Math.min(fixed.size - 1, Math.max(0, value + move[i] * (event.shiftKey ? 8 : 2))));
    if (move && drawing) draft.push(pen);
    if (event.key === "Escape") cancel();
    else if (!move && !drawing) begin([pen]);
    else if (!move) finish();
    keys.textContent = `pen ${drawing ? "down" : "up"} at (${pen.join(", ")})`;
    redraw();
  });
  pad.addEventListener("blur", () => { if (pen) cancel(); pen = null; keys.textContent = ""; redraw(); });
  function begin(points) { drawing = true; draft = points; }
  function finish() { drawing = false; send({ do: "draw", points: draft }); }
  function cancel() { if (drawing) { drawing = false; draft = null; redraw(); } }

  const family = h("select", { class: "tl-family", "aria-label": "class of the trajectory", title: "class of the trajectory" }, ...fixed.families.map((name) => h("option", { value: name }, name)));
  const other = button("another", "another seed", "the same path, other random numbers", () => send({ do: "set", name: "seed", value: model.get("view").settings.seed + 1 }));
  const sampled = h("span", { class: "tl-row" }, h("label", {}, "or let the model sample one: class ", family),
    button("sample", "sample a trajectory", "a new trajectory of this class", () => send({ do: "sample", family: family.value })));
  const mark = (sign, colour, text) => h("span", {}, h("b", { style: `color: ${colour}; background: #fff; padding: 0 3px` }, sign), ` ${text} `);
  const summary = h("span", { class: "tl-summary tl-title" }), about = h("span", { class: "tl-hint" });
  const keys = h("span", { class: "tl-hint tl-keys", role: "status" });
  box.append(
    h("div", { class: "tl-row" }, h("span", { class: "tl-title" }, "Draw a path"),
      h("span", { class: "tl-hint" }, "below, with the mouse or a finger; or by keys: arrows move a pen, the space bar puts it down and lifts it"), keys),
    h("div", { class: "tl-row" }, ...(fixed.families.length ? [sampled] : [])),
    h("div", { class: "tl-row" }, amount("radius", "dot radius, px", "of a path that you draw"), amount("seed", "seed", "of the random numbers", 80), other, ...videos.controls),
    h("div", { class: "tl-row tl-top" },
      h("figure", {}, h("div", { class: "tl-video" }, pad),
        h("figcaption", {}, mark("○", blue, "the trajectory, frame by frame"), mark("●", red, "the dot in the video"))),
      ...videos.videos),
    h("div", { class: "tl-row", "aria-live": "polite" }, summary, about));

  function redraw() {
    const view = model.get("view"), g = pad.getContext("2d"), px = side / fixed.size, now = videos.frame();
    g.setTransform(px, 0, 0, px, px / 2, px / 2); // a pixel's centre is a whole number
    g.fillStyle = "#fff"; // white in either theme, as the videos are
    g.fillRect(-0.5, -0.5, fixed.size, fixed.size);
    const line = (points, colour, width) => {
      g.beginPath();
      points.forEach(([x, y]) => g.lineTo(x, y));
      g.lineWidth = width;
      g.strokeStyle = colour;
      g.stroke();
    };
    const disc = ([x, y], radius) => { g.beginPath(); g.arc(x, y, Math.max(0, radius), 0, 7); };
    if (draft) line(draft, "#222", 0.6);
    if (pen) [[-2.5, 0, 2.5, 0], [0, -2.5, 0, 2.5]].forEach(([a, b, c, d]) => line([[pen[0] + a, pen[1] + b], [pen[0] + c, pen[1] + d]], drawing ? "#222" : "#D55E00", 0.5));
    if (draft) return;
    if (view.stroke) line(view.stroke, "#bbb", 0.6);
    line(view.trajectory, blue, 0.15);
    view.trajectory.forEach((dot, i) => {
      disc(dot, dot[2]);
      g.lineWidth = i === now ? 0.7 : 0.25;
      g.strokeStyle = blue;
      g.stroke();
    });
    view.measured.forEach((dot, i) => {
      if (!dot) return;
      line([view.trajectory[i], dot], red, 0.25);
      disc(dot, i === now ? 1.3 : 0.7);
      g.fillStyle = red;
      g.fill();
    });
    videos.captions(view.captions);
  }
  function update() {
    const view = model.get("view");
    if (!drawing && !queued("draw")) draft = null;
    videos.draw();
    redraw();
    fill(view);
    if (view.settings.family) family.value = view.settings.family;
    pad.setAttribute("aria-label", view.label);
    summary.textContent = view.summary;
    about.textContent = view.about;
    if (view.seq && !view.error) videos.start();
    shown();
  }
  return { update, close: videos.close };
}
