// The code map: all tokens in use on a plane; `data` is what code_map.py makes, `pick(row)` what a click does.

function codeMap(data, fixed, pick) {
  const width = 540, height = 196, edge = 10, luts = fixed.luts;
  const plane = h("canvas", { class: "tl-plane", width, height, tabindex: 0, role: "img", style: "cursor: crosshair; border: 1px solid var(--jp-border-color1, #999)" });
  const select = (label, className, names, act) => {
    const node = h("select", { class: className, "aria-label": label, title: label, onchange: () => act() });
    node.append(...names.map((name) => h("option", { value: name }, name)));
    return node;
  };
  const layout = select("lay out by", "tl-layout", Object.keys(data.layouts), draw);
  const colouring = select("colour by", "tl-colouring", Object.keys(data.colourings), draw);
  const legend = h("div", { class: "tl-legend", style: "font-size: 12px; line-height: 15px" }), note = h("div", { style: "min-height: 36px; white-space: pre-line" });
  const zoom = h("canvas", { class: "tl-zoom", width: 33, height: 16, role: "img", style: "width: 132px; height: 64px; image-rendering: pixelated; border: 1px solid var(--jp-border-color1, #999)" });
  const node = h("div", { class: "tl-row tl-top tl-map" }, plane, h("div", { class: "tl-column", style: "flex: 1 1 200px; max-width: 290px; gap: 4px" },
    h("label", {}, "lay out by ", layout), h("label", {}, "colour by ", colouring), legend, h("div", { class: "tl-row", style: "flex-wrap: nowrap" }, zoom, note)));
  let sheet = null, hover = 0, chosen = null, at = [];
  createImageBitmap(new Blob([bytes(data.sheet)], { type: "image/png" })).then((image) => { sheet = image; draw(); });

  function draw() {
    const { x, y } = data.layouts[layout.value], { value, lut, low, high, names } = data.colourings[colouring.value];
    const g = plane.getContext("2d"), table = luts[lut] || data.luts[lut], text = textColour(plane);
    g.clearRect(0, 0, width, height);
    at = x.map((u, i) => [edge + u * (width - 2 * edge), edge + y[i] * (height - 2 * edge)]);
    at.forEach(([u, v], i) => {
      g.beginPath();
      g.arc(u, v, data.radius[i], 0, 7);
      g.fillStyle = css(table[value[i]] || [190, 190, 190]); // grey: no value
      g.fill();
      g.lineWidth = 0.5;
      g.strokeStyle = text;
      g.stroke();
    });
    for (const [row, colour, wide] of [[hover, text, 1.5], [chosen, "#D55E00", 3]]) if (row != null && at[row]) {
      g.beginPath();
      g.arc(...at[row], data.radius[row] + 3, 0, 7);
      g.lineWidth = wide;
      g.strokeStyle = colour;
      g.stroke();
    }
    plane.dataset.hover = hover;
    plane.setAttribute("aria-label", `${at.length} tokens on a plane, by ${layout.value}, coloured by ${colouring.value}. ${data.notes[hover]}`);
    if (names) legend.replaceChildren(...names.map((name, i) => h("span", { style: "margin-right: 8px" }, h("span", { style: `color:${css(table[i])}` }, "● "), name)));
    else {
      const bar = h("canvas", { width: 256, height: 1 }), b = bar.getContext("2d");
      table.forEach((colour, i) => { b.fillStyle = css(colour); b.fillRect(i, 0, 1, 1); });
      legend.replaceChildren(h("div", { class: "tl-row" }, low, bar, high));
    }
    note.textContent = data.notes[hover];
    zoom.setAttribute("aria-label", data.notes[hover]);
    if (sheet) {
      const { columns, wide, tall } = data.tile, z = zoom.getContext("2d");
      zoom.width = wide;
      zoom.height = tall;
      z.drawImage(sheet, (hover % columns) * wide, Math.floor(hover / columns) * tall, wide, tall, 0, 0, wide, tall);
    }
  }
  function nearest(event) {
    const box = plane.getBoundingClientRect(), u = event.clientX - box.left, v = event.clientY - box.top;
    let best = null, least = 400;
    at.forEach(([a, b], i) => { const d = (a - u) ** 2 + (b - v) ** 2; if (d < least) { least = d; best = i; } });
    return best;
  }
  plane.addEventListener("mousemove", (event) => { const row = nearest(event); if (row != null && row !== hover) { hover = row; draw(); } });
  plane.addEventListener("click", (event) => { const row = nearest(event); if (row != null) { hover = row; draw(); pick(row); } });
  plane.addEventListener("keydown", (event) => {
    const direction = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] }[event.key];
    if (event.key === "Enter") { event.preventDefault(); event.stopPropagation(); pick(hover); }
    if (!direction) return;
    event.preventDefault();
    event.stopPropagation();
    let best = null, least = Infinity; // the nearest point in that direction, within 60 degrees
    at.forEach(([a, b], i) => {
      const u = a - at[hover][0], v = b - at[hover][1], along = u * direction[0] + v * direction[1], d = u * u + v * v;
      if (i !== hover && along > 0.5 * Math.sqrt(d) && d < least) { least = d; best = i; }
    });
    if (best != null) { hover = best; draw(); }
  });
  function show(row) { // the token that is selected in the explorer, null for one that is not on the map
    chosen = row;
    if (row != null) hover = row;
    draw();
  }
  return { node, show };
}
