// From one clip to another, step by step.

function canvas(model, el) {
  const fixed = model.get("fixed"), { box, send, shown, queued } = shell(model, el);
  const tokens = maps(fixed, null), videos = player(model, fixed.panels, { onFrame: redraw });
  const ends = ["a", "b"].map((end) => {
    const node = number(`clip ${end.toUpperCase()}`, 0, fixed.clips - 1, `tl-${end}`);
    node.addEventListener("change", () => send({ do: "choose", a: Number(ends[0].value), b: Number(ends[1].value) }));
    return node;
  });
  const method = h("select", { class: "tl-method", "aria-label": "method", title: "how tokens are chosen between A and B", onchange: () => send({ do: "use", method: method.value }) },
    ...fixed.methods.map(([value, text]) => h("option", { value }, text)));
  const step = h("input", { type: "range", class: "tl-step", min: 0, max: fixed.steps, "aria-label": "step from A to B", title: "step from A to B", style: "width: 260px",
    oninput: () => send({ do: "go", step: Number(step.value) }) });
  const where = h("span", { style: "min-width: 70px" });
  const key = h("div", { class: "tl-row" }, ...fixed.origins.map(([, name, colour]) => h("span", {}, h("span", { style: `color:${colour}` }, "■ "), name)));
  box.append(h("div", { class: "tl-row" }, h("label", {}, "A: clip ", ends[0]), h("label", {}, "B: clip ", ends[1]), h("label", {}, "method ", method)),
    h("div", { class: "tl-row" }, h("label", {}, "A ", step, " B"), where, ...videos.controls),
    h("div", { class: "tl-row tl-top" }, ...videos.videos), tokens.node, key);
  const colours = Object.fromEntries(fixed.origins.map(([sign, , colour]) => [sign, rgb(colour)]));

  function redraw() {
    const view = model.get("view"), now = Math.floor(videos.frame() / fixed.frames * fixed.grid[0]);
    const fill = view.origin.map((rows) => rows.map((row) => row.map((sign) => colours[sign])));
    tokens.draw({ text: view.text, fill, mark: view.origin.map((rows) => rows.map((row) => row.map(() => false))) }, null, now, view.label);
    videos.captions(view.captions);
  }
  function update() {
    const view = model.get("view");
    videos.draw();
    redraw();
    ends[0].value = view.a;
    ends[1].value = view.b;
    method.value = view.method;
    if (!box.matches("[aria-busy=true]") || document.activeElement !== step) step.value = view.step;
    where.textContent = `step ${view.step} of ${fixed.steps}`;
    shown();
  }
  videos.go(fixed.start);
  return { update, close: videos.close };
}
