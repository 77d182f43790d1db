// The course's pictures that one can touch: films in step, maps of tokens, the map of a codebook. Plain DOM and canvas,
// no import: it works without a network. All that matters is computed in Python; here it is drawn, and clicks are sent.
//
// A model has: kind; fixed (sent once); films and still {name: bytes, 16 x 64 x 64 of 3 or 1}, still ones change rarely;
// patches (bytes); view (everything small, with a counter `seq`). A click is sent as {do: ..., ...} and answered by a new
// view; while one is under way, later ones wait.

const STYLE = `
.tl { font: 13px/1.35 var(--jp-ui-font-family, system-ui); color: var(--jp-ui-font-color1, #222); max-width: 1000px;
  display: flex; flex-direction: column; gap: 10px; padding: 4px 2px; }
.tl-row { display: flex; flex-wrap: wrap; gap: 8px 12px; align-items: center; }
.tl-top { align-items: flex-start; }
.tl figure { margin: 0; } .tl figcaption { font-size: 12px; min-height: 17px; } .tl-film + figcaption { max-width: 186px; }
.tl button, .tl select, .tl input[type=number], .tl input[type=text] { font: inherit; color: inherit; padding: 2px 8px;
  background: var(--jp-layout-color2, #f3f3f3); border: 1px solid var(--jp-border-color1, #999); border-radius: 3px; }
.tl button { cursor: pointer; } .tl button:disabled, .tl input:disabled, .tl select:disabled { opacity: .45; cursor: default; }
.tl button:focus-visible, .tl canvas:focus-visible, .tl select:focus-visible, .tl input:focus-visible {
  outline: 3px solid #E69F00; outline-offset: 1px; }
.tl input[type=number] { width: 52px; } .tl input[type=text] { width: 64px; box-sizing: border-box; }
.tl label { display: inline-flex; gap: 5px; align-items: center; }
.tl-film { position: relative; width: 184px; height: 184px; border: 1px solid var(--jp-border-color1, #999); }
.tl-film canvas { width: 100%; height: 100%; image-rendering: pixelated; display: block; cursor: crosshair; }
.tl-path .tl-film { width: 324px; height: 324px; } .tl-path .tl-film + figcaption { max-width: 326px; }
.tl-cell { position: absolute; pointer-events: none; border: 2px solid #D55E00; box-sizing: border-box; }
.tl-cell.away { border-style: dotted; opacity: .6; }
.tl-strip { image-rendering: pixelated; border: 1px solid var(--jp-border-color1, #999); }
.tl-status { margin-left: auto; min-width: 150px; text-align: right; color: var(--jp-ui-font-color2, #555); }
.tl-error { color: #fff; background: #a00000; padding: 4px 8px; border-radius: 3px; } .tl-error:empty { display: none; }
.tl[aria-busy=true] .tl-status { color: var(--jp-ui-font-color1, #222); font-weight: 600; }
.tl-items { display: flex; flex-wrap: wrap; gap: 4px; }
.tl-items button { padding: 2px; display: flex; flex-direction: column; align-items: center; font-size: 11px; }
.tl-items canvas { width: 66px; height: 32px; image-rendering: pixelated; }
.tl-title { font-weight: 600; } .tl-hint { color: var(--jp-ui-font-color2, #555); font-size: 12px; }
.tl-digit { display: inline-flex; gap: 3px; align-items: center; margin-right: 6px; }
.tl-digit b { min-width: 1.2em; text-align: center; }
.tl-bar { display: grid; grid-template-columns: 72px 120px 60px; gap: 2px 6px; font-size: 12px; align-items: center; }
.tl-bar div { height: 10px; }
.tl .tl-decode { font-weight: 600; }
.tl-legend .tl-row { flex-wrap: nowrap; } .tl-legend canvas { flex: 1; min-width: 60px; height: 12px; }
`;

function h(tag, props = {}, ...children) {
  const node = document.createElement(tag);
  // else arrows and letters pressed here are JupyterLab's, too: it chooses, copies, deletes cells by them
  if (["button", "canvas", "input", "select"].includes(tag)) node.dataset.lmSuppressShortcuts = "true";
  // and Enter, which says that a number is done, would edit the cell
  if (tag === "input") node.addEventListener("keydown", (event) => { if (event.key === "Enter") event.stopPropagation(); });
  for (const [key, value] of Object.entries(props)) {
    if (key.startsWith("on")) node.addEventListener(key.slice(2), value);
    else if (key === "class") node.className = value;
    else node.setAttribute(key, value);
  }
  node.append(...children);
  return node;
}

const bytes = (view) => new Uint8Array(view.buffer, view.byteOffset, view.byteLength);
const dark = ([r, g, b]) => 0.3 * r + 0.59 * g + 0.11 * b < 130;
const css = (colour) => `rgb(${colour.join()})`;
// the theme's colour of text; a canvas that is not on the page yet has none of its own
const inkOf = (canvas) => getComputedStyle(canvas).color || getComputedStyle(document.body).getPropertyValue("--jp-ui-font-color1") || "#222";
const rgb = (hex) => [1, 3, 5].map((i) => parseInt(hex.slice(i, i + 2), 16));

// ---- what all of them share ----

// The frame around a widget: status line, error line, and the conversation with Python.
function shell(model, el) {
  const error = h("div", { class: "tl-error", role: "alert" });
  const status = h("span", { class: "tl-status", role: "status", "aria-live": "polite" });
  const box = h("div", { class: `tl tl-${model.get("kind")}`, "aria-busy": "false" });
  box.append(h("style", {}, STYLE), error);
  el.append(box);
  const later = ["select", "go", "continue", "draw"]; // of these only the last one counts
  let queue = [], waiting = null, sent = 0;
  function pump() {
    if (waiting || !queue.length) return;
    sent = performance.now();
    box.setAttribute("aria-busy", "true");
    status.textContent = "working …";
    waiting = setTimeout(() => (status.textContent = "no answer yet: is the kernel busy? If it stays so, run this cell again"), 6000);
    model.send(queue.shift());
  }
  function send(message) {
    if (later.includes(message.do)) queue = queue.filter((m) => m.do !== message.do);
    queue.push(message);
    pump();
  }
  // call after drawing a new view
  function shown() {
    const view = model.get("view");
    error.textContent = view.error || "";
    if (waiting) {
      clearTimeout(waiting);
      waiting = null;
      box.dataset.ms = (performance.now() - sent).toFixed(1);
    }
    box.setAttribute("aria-busy", String(queue.length > 0 || Boolean(view.more)));
    status.textContent = view.status || "";
    box.dataset.seq = view.seq; // last of all: whoever waits for it finds everything drawn
    pump();
    if (view.more) send({ do: "continue" });
  }
  const queued = (what) => queue.some((message) => message.do === what);
  return { box, status, send, shown, queued };
}

// Films in step: a canvas each, one button and one slider for all of them.
function player(model, panels, { onFrame = () => {}, onPick = null } = {}) {
  const fixed = model.get("fixed"), frames = fixed.frames, size = fixed.size;
  let frame = 0, timer = null;
  const films = panels.map(({ name, lut }) => {
    const canvas = h("canvas", { width: size, height: size, role: "img", "data-film": name });
    const cell = h("div", { class: "tl-cell", hidden: "" });
    const caption = h("figcaption");
    if (onPick) canvas.addEventListener("click", (event) => {
      const at = canvas.getBoundingClientRect();
      const [t, hh, w] = fixed.grid;
      const part = (value, low, length, n) => Math.min(n - 1, Math.max(0, Math.floor((value - low) / length * n)));
      onPick(Math.floor(frame / frames * t), part(event.clientY, at.top, at.height, hh), part(event.clientX, at.left, at.width, w));
    });
    const node = h("figure", {}, h("div", { class: "tl-film" }, canvas, cell), caption);
    return { name, lut, canvas, cell, caption, node };
  });
  const play = h("button", { class: "tl-play", "aria-label": "play or pause the films", onclick: toggle }, "▶ play");
  const slider = h("input", { type: "range", class: "tl-frame", min: 0, max: frames - 1, value: 0, "aria-label": "frame",
    oninput: () => go(Number(slider.value)) });
  const label = h("span", { style: "min-width: 110px" });
  function toggle() {
    if (timer) { clearInterval(timer); timer = null; } else timer = setInterval(() => go((frame + 1) % frames), 150);
    play.textContent = timer ? "❚❚ pause" : "▶ play";
  }
  function go(to) { frame = to; draw(); onFrame(frame); }
  function draw() {
    slider.value = frame;
    label.textContent = `frame ${frame} of 0–${frames - 1}`;
    for (const film of films) {
      const data = model.get("films")[film.name] || model.get("still")[film.name];
      if (data && data.byteLength) paint(film.canvas, bytes(data), frame, size, film.lut && fixed.luts[film.lut]);
      film.canvas.dataset.frame = frame;
    }
  }
  // outline one cell of the grid in every film; dotted while other frames are shown
  function outline([t, y, x]) {
    const [nt, nh, nw] = fixed.grid;
    for (const { cell } of films) {
      cell.hidden = false;
      cell.classList.toggle("away", Math.floor(frame / frames * nt) !== t);
      Object.assign(cell.style, { left: `${100 * x / nw}%`, top: `${100 * y / nh}%`, width: `${100 / nw}%`, height: `${100 / nh}%` });
    }
  }
  function captions(texts) {
    for (const { name, caption, canvas } of films) {
      caption.textContent = texts[name] || name;
      canvas.setAttribute("aria-label", `${texts[name] || name}, ${label.textContent}`);
    }
  }
  const close = () => clearInterval(timer);
  const start = () => { if (!timer && !matchMedia("(prefers-reduced-motion: reduce)").matches) toggle(); };
  return { films: films.map((film) => film.node), controls: [play, slider, label], draw, go, outline, captions, start, close, frame: () => frame };
}

// One frame of a film of colours, or of numbers 0..255 through a colour table.
function paint(canvas, data, frame, size, lut) {
  const g = canvas.getContext("2d"), image = g.createImageData(size, size), n = size * size;
  for (let i = 0; i < n; i++) {
    const colour = lut ? lut[data[frame * n + i]] : data.subarray(3 * (frame * n + i), 3 * (frame * n + i) + 3);
    image.data.set([colour[0], colour[1], colour[2], 255], 4 * i);
  }
  g.putImageData(image, 0, 0);
}

// The eight maps of codes. `cells` has text, fill (colours), mark (changed?), each [t][y][x]; arrows move the selection.
function maps(fixed, onPick) {
  const [nt, nh, nw] = fixed.grid, cell = 28, gap = 10, top = 18, wide = nw * cell + gap;
  const width = nt * wide - gap + 4, height = top + nh * cell + 4, scale = window.devicePixelRatio || 1;
  const canvas = h("canvas", { class: "tl-maps", width: width * scale, height: height * scale, tabindex: onPick ? 0 : -1, role: "img",
    style: `width:${width}px;height:${height}px;cursor:${onPick ? "pointer" : "default"}` });
  let selected = null;
  function at(event) { // the place under the pointer, or null
    const box = canvas.getBoundingClientRect(), u = event.clientX - box.left - 2, v = event.clientY - box.top - top - 2;
    const t = Math.floor(u / wide), x = Math.floor((u - t * wide) / cell), y = Math.floor(v / cell);
    return t >= 0 && t < nt && x >= 0 && x < nw && y >= 0 && y < nh ? [t, y, x] : null;
  }
  if (onPick) {
    canvas.addEventListener("click", (event) => { const place = at(event); if (place) onPick(...place); });
    canvas.addEventListener("keydown", (event) => {
      let [t, y, x] = selected || [0, 0, 0];
      if (event.key === "ArrowLeft") x -= 1;
      else if (event.key === "ArrowRight") x += 1;
      else if (event.key === "ArrowUp") y -= 1;
      else if (event.key === "ArrowDown") y += 1;
      else if (event.key === "PageUp") t -= 1;
      else if (event.key === "PageDown") t += 1;
      else return;
      event.preventDefault();
      event.stopPropagation();
      if (x < 0 && t > 0) { t -= 1; x = nw - 1; } // over the edge into the next map
      if (x >= nw && t < nt - 1) { t += 1; x = 0; }
      const within = (i, n) => Math.min(n - 1, Math.max(0, i));
      onPick(within(t, nt), within(y, nh), within(x, nw));
    });
  }
  function draw(cells, chosen, frameNow, label) {
    selected = chosen;
    const g = canvas.getContext("2d"), ink = inkOf(canvas);
    g.setTransform(scale, 0, 0, scale, 0, 0);
    g.clearRect(0, 0, width, height);
    g.textAlign = "center";
    g.textBaseline = "middle";
    for (let t = 0; t < nt; t++) {
      const now = t === frameNow, per = fixed.frames / nt;
      g.fillStyle = ink;
      g.font = `${now ? "bold " : ""}11px sans-serif`;
      g.fillText(`${now ? "▶ " : ""}frames ${t * per}–${(t + 1) * per - 1}`, 2 + t * wide + nw * cell / 2, 8);
      for (let y = 0; y < nh; y++) for (let x = 0; x < nw; x++) {
        const left = 2 + t * wide + x * cell, low = top + 2 + y * cell, fill = cells.fill[t][y][x];
        g.fillStyle = css(fill);
        g.fillRect(left, low, cell - 1, cell - 1);
        g.fillStyle = dark(fill) ? "#fff" : "#000";
        const lines = cells.text[t][y][x].split("·"), longest = Math.max(...lines.map((line) => line.length));
        g.font = `${Math.min(11, Math.floor(40 / longest))}px monospace`;
        lines.forEach((line, i) => g.fillText(line, left + cell / 2, low + cell / 2 + 10 * (i - (lines.length - 1) / 2)));
        if (cells.mark[t][y][x]) { g.beginPath(); g.moveTo(left, low); g.lineTo(left + 9, low); g.lineTo(left, low + 9); g.fill(); }
      }
    }
    if (chosen) {
      const [t, y, x] = chosen;
      g.lineWidth = 3;
      g.strokeStyle = "#D55E00";
      g.strokeRect(2 + t * wide + x * cell, top + 2 + y * cell, cell - 1, cell - 1);
    }
    canvas.setAttribute("aria-label", label);
    canvas.dataset.words = cells.text.flat(2).join(" ");
  }
  return { canvas, draw, at };
}

// A patch of two frames, side by side with a gap.
function patch(data, at, [dt, dh, dw]) {
  const canvas = h("canvas", { width: dt * dw + dt - 1, height: dh, "aria-hidden": "true" }), g = canvas.getContext("2d");
  for (let t = 0; t < dt; t++) {
    const image = g.createImageData(dw, dh);
    for (let i = 0; i < dh * dw; i++) {
      const from = at + 3 * (t * dh * dw + i);
      image.data.set([data[from], data[from + 1], data[from + 2], 255], 4 * i);
    }
    g.putImageData(image, t * (dw + 1), 0);
  }
  return canvas;
}

function number(label, value, max, className) {
  return h("input", { type: "number", class: className, min: 0, max, value, "aria-label": label });
}

// A labelled control for each setting; `fill` shows what Python says of them.
function settings(fixed, send) {
  const fields = {}, set = (name, value) => send({ do: "set", name, value });
  function amount(name, text, width = 52) {
    const [min, max, step] = fixed.numbers[name];
    fields[name] = h("input", { type: "number", class: `tl-${name}`, min, max, step, "aria-label": text, style: `width: ${width}px`,
      onchange: () => set(name, fields[name].value === "" ? null : Number(fields[name].value)) });
    return h("label", {}, text, fields[name]);
  }
  function choice(name, text) {
    const options = fixed.choices[name];
    fields[name] = h("select", { class: `tl-${name}`, "aria-label": text, onchange: () => set(name, options[fields[name].selectedIndex][0]) },
      ...options.map(([value, says]) => h("option", { value }, says)));
    return h("label", {}, text, fields[name]);
  }
  function fill(view) {
    for (const [name, field] of Object.entries(fields)) {
      if (document.activeElement !== field || field.tagName === "SELECT") field.value = view.settings[name];
      field.disabled = view.used[name] === false;
    }
  }
  return { amount, choice, fill };
}

// ---- a film, alone ----

function filmPlayer(model, el) {
  const { box, shown } = shell(model, el);
  const films = player(model, model.get("fixed").panels);
  box.append(h("div", { class: "tl-row" }, ...films.controls), h("div", { class: "tl-row" }, ...films.films));
  const update = () => { films.draw(); films.captions(model.get("view").captions); shown(); };
  return { update, close: films.close };
}

// ---- the explorer: look at a token, and operate on it ----

function explorer(model, el) {
  const fixed = model.get("fixed"), { box, status, send, shown, queued } = shell(model, el);
  let wanted = model.get("view").selected; // what is chosen here; Python may be some choices behind
  const pick = (t, y, x) => { wanted = [t, y, x]; redraw(); send({ do: "select", t, y, x }); };
  const films = player(model, fixed.panels, { onFrame: redraw, onPick: pick });
  const codes = maps(fixed, pick);
  const clip = number("clip", 0, fixed.clips - 1, "tl-clip");
  clip.addEventListener("change", () => send({ do: "choose", clip: Number(clip.value) }));
  const other = number("another clip, to take tokens from", 1, fixed.clips - 1, "tl-other");
  const code = h("input", { type: "text", class: "tl-code", "aria-label": "a code to put here" });
  const put = () => send({ do: "put", code: code.value });
  code.addEventListener("keydown", (event) => { event.stopPropagation(); if (event.key === "Enter") put(); });
  const button = (name, text, act) => h("button", { class: `tl-${name}`, onclick: act }, text);
  const undo = button("undo", "undo", () => send({ do: "undo" })), reset = button("reset", "reset", () => send({ do: "reset" }));
  const digits = h("span", { class: "tl-digits" }), about = h("span");
  const facts = h("div", { style: "width: 300px" }), galleries = h("div", { style: "flex: 1; min-width: 500px" });
  const strip = h("canvas", { class: "tl-strip", role: "img", width: fixed.frames * (fixed.size + 1) - 1, height: fixed.size,
    style: "width: 980px; height: 60px" });
  const field = h("div", { class: "tl-field" });
  box.append(
    h("div", { class: "tl-row" }, h("label", {}, "clip ", clip), about, ...films.controls, status),
    h("div", { class: "tl-row tl-top" }, ...films.films),
    codes.canvas,
    h("div", { class: "tl-row" }, h("span", { class: "tl-title" }, "Surgery"), digits,
      h("label", {}, "code ", code), button("put", "put here", put)),
    h("div", { class: "tl-row" }, h("label", {}, "from clip ", other),
      button("take", "its token here", () => send({ do: "take", clip: Number(other.value) })),
      button("take-frame", "its whole frame of tokens", () => send({ do: "take_frame", clip: Number(other.value) })), undo, reset),
    h("figure", {}, strip, field),
    h("div", { class: "tl-row tl-top" }, facts, galleries));
  let lastPlace = null;

  function redraw() {
    const view = model.get("view"), now = Math.floor(films.frame() / fixed.frames * fixed.grid[0]);
    const fill = view.shade.map((rows) => rows.map((row) => row.map((value) => fixed.luts.often[value])));
    codes.draw({ text: view.text, fill, mark: view.changed }, wanted, now, view.label);
    films.outline(wanted);
    films.captions(view.captions);
  }
  function item(entry, data, i) {
    const cell = [fixed.frames / fixed.grid[0], fixed.size / fixed.grid[1], fixed.size / fixed.grid[2]];
    const size = 3 * cell[0] * cell[1] * cell[2];
    return h("button", { title: entry.title, "aria-label": entry.title, "data-code": entry.label,
      onclick: () => send(entry.message) }, patch(data, i * size, cell), entry.label);
  }
  function drawWord(view) {
    digits.replaceChildren(...view.digits.map(({ name, value, top }, digit) => {
      const step = (by, text, says) => h("button", { "aria-label": `${says} ${name}`, "data-digit": `${digit}${by > 0 ? "+" : "-"}`,
        onclick: () => send({ do: "step", digit, by }) }, text);
      return h("span", { class: "tl-digit" }, name, ...(top === 1
        ? [h("b", {}, String(value)), step(1, "flip", "flip")]
        : [step(-1, "−", "lower"), h("b", {}, `${value}`), `of ${top}`, step(1, "+", "raise")]));
    }));
    const most = Math.max(1, ...view.classes.map((row) => row.count));
    facts.replaceChildren(h("div", { class: "tl-title" }, view.title), ...view.facts.map((fact) => h("div", {}, fact)),
      h("div", { class: "tl-hint" }, "in clips of"),
      h("div", { class: "tl-bar" }, ...view.classes.flatMap(({ name, count, colour }) => [h("span", {}, name),
        h("div", { style: `width:${Math.round(120 * count / most)}px;background:${colour}` }), h("span", {}, String(count))])),
      h("div", { class: "tl-hint" }, "where in the grid"), whereMap(view.where));
    const data = bytes(model.get("patches"));
    let i = 0;
    galleries.replaceChildren(...view.galleries.flatMap(({ title, hint, items }) => [h("div", {},
      h("span", { class: "tl-title" }, title), " ", h("span", { class: "tl-hint" }, hint)),
      h("div", { class: "tl-items" }, ...items.map((entry) => item(entry, data, i++)))]));
  }
  function whereMap(counts) { // eight small maps, darker where the word stands more often
    const [nt, nh, nw] = fixed.grid, cell = 8, wide = nw * cell + 4, most = Math.max(1, ...counts.flat(2));
    const canvas = h("canvas", { width: nt * wide, height: nh * cell, role: "img", "aria-label": "how often in each place of the grid" });
    const g = canvas.getContext("2d");
    for (let t = 0; t < nt; t++) for (let y = 0; y < nh; y++) for (let x = 0; x < nw; x++) {
      g.fillStyle = css(fixed.luts.heat[Math.round(255 * counts[t][y][x] / most)]);
      g.fillRect(t * wide + x * cell, y * cell, cell - 1, cell - 1);
    }
    return canvas;
  }
  function drawStrip() {
    const data = bytes(model.get("films").change), lut = fixed.luts.heat, g = strip.getContext("2d");
    const one = h("canvas", { width: fixed.size, height: fixed.size });
    for (let frame = 0; frame < fixed.frames; frame++) {
      paint(one, data, frame, fixed.size, lut);
      g.drawImage(one, frame * (fixed.size + 1), 0);
    }
  }
  function update() {
    const view = model.get("view"), place = view.selected.join();
    if (!queued("select")) wanted = view.selected;
    if (place !== lastPlace) films.go(view.selected[0] * fixed.frames / fixed.grid[0]); // show the frames of a new choice
    lastPlace = place;
    films.draw();
    redraw();
    drawWord(view);
    drawStrip();
    if (document.activeElement !== clip) clip.value = view.clip;
    if (document.activeElement !== code) code.value = view.code;
    about.textContent = view.about;
    field.textContent = view.field;
    strip.setAttribute("aria-label", `what the change did, frame by frame: ${view.field}`);
    undo.disabled = !view.history;
    reset.disabled = !view.history;
    shown();
  }
  return { update, close: films.close };
}

// ---- the codebook on a plane ----

function codeMap(model, el) {
  const fixed = model.get("fixed"), { box, status, send, shown } = shell(model, el), width = 660, height = 460, edge = 14;
  const canvas = h("canvas", { class: "tl-plane", width, height, tabindex: 0, role: "img", style: "cursor: crosshair; border: 1px solid var(--jp-border-color1, #999)" });
  const select = (label, className, names, act) => {
    const node = h("select", { class: className, "aria-label": label, onchange: () => act() });
    node.append(...names.map((name) => h("option", { value: name }, name)));
    return node;
  };
  const layout = select("layout", "tl-layout", Object.keys(fixed.layouts), draw);
  const tint = select("colour", "tl-tint", Object.keys(fixed.tints), draw);
  const legend = h("div", { class: "tl-legend" }), text = h("div", { style: "min-height: 120px; white-space: pre-line" });
  const zoom = h("canvas", { class: "tl-zoom", width: 33, height: 16, role: "img", style: "width: 264px; height: 128px; image-rendering: pixelated; border: 1px solid var(--jp-border-color1, #999)" });
  const send1 = h("button", { class: "tl-send", onclick: () => pick(hover) }, "put it into surgery");
  box.append(h("div", { class: "tl-row" }, h("label", {}, "lay out by ", layout), h("label", {}, "colour by ", tint), status),
    h("div", { class: "tl-row tl-top" }, canvas, h("div", { style: "width: 270px; display: flex; flex-direction: column; gap: 8px" }, legend, zoom, text, send1)));
  let sheet = null, hover = 0, at = [];
  createImageBitmap(new Blob([bytes(fixed.sheet)], { type: "image/png" })).then((image) => { sheet = image; draw(); });

  function pick(row) { send({ do: "pick", row }); }
  function draw() {
    const { x, y } = fixed.layouts[layout.value], { value, lut, low, high, names } = fixed.tints[tint.value];
    const g = canvas.getContext("2d"), table = fixed.luts[lut], ink = inkOf(canvas);
    g.clearRect(0, 0, width, height);
    at = x.map((u, i) => [edge + u * (width - 2 * edge), edge + y[i] * (height - 2 * edge)]);
    at.forEach(([u, v], i) => {
      g.beginPath();
      g.arc(u, v, fixed.radius[i], 0, 7);
      g.fillStyle = css(table[value[i]] || [190, 190, 190]); // grey: it has no such value
      g.fill();
      g.lineWidth = 0.5;
      g.strokeStyle = ink;
      g.stroke();
    });
    for (const [row, colour, wide] of [[hover, ink, 1.5], [model.get("view").row, "#D55E00", 3]]) if (row != null && at[row]) {
      g.beginPath();
      g.arc(...at[row], fixed.radius[row] + 3, 0, 7);
      g.lineWidth = wide;
      g.strokeStyle = colour;
      g.stroke();
    }
    canvas.dataset.hover = hover;
    canvas.setAttribute("aria-label", `${at.length} codes on a plane, by ${layout.value}, coloured by ${tint.value}. ${fixed.notes[hover]}`);
    if (names) legend.replaceChildren(...names.map((name, i) => h("div", {}, h("span", { style: `color:${css(table[i])}` }, "● "), name)));
    else {
      const bar = h("canvas", { width: 256, height: 1 }), b = bar.getContext("2d");
      table.forEach((colour, i) => { b.fillStyle = css(colour); b.fillRect(i, 0, 1, 1); });
      legend.replaceChildren(h("div", { class: "tl-row" }, low, bar, high));
    }
    text.textContent = fixed.notes[hover];
    zoom.setAttribute("aria-label", fixed.notes[hover]);
    if (sheet) {
      const { columns, wide, tall } = fixed.tile, z = zoom.getContext("2d");
      zoom.width = wide;
      zoom.height = tall;
      z.drawImage(sheet, (hover % columns) * wide, Math.floor(hover / columns) * tall, wide, tall, 0, 0, wide, tall);
    }
  }
  function nearest(event) {
    const box = canvas.getBoundingClientRect(), u = event.clientX - box.left, v = event.clientY - box.top;
    let best = null, least = 400;
    at.forEach(([a, b], i) => { const d = (a - u) ** 2 + (b - v) ** 2; if (d < least) { least = d; best = i; } });
    return best;
  }
  canvas.addEventListener("mousemove", (event) => { const row = nearest(event); if (row != null && row !== hover) { hover = row; draw(); } });
  canvas.addEventListener("click", (event) => { const row = nearest(event); if (row != null) { hover = row; draw(); pick(row); } });
  canvas.addEventListener("keydown", (event) => {
    const way = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] }[event.key];
    if (event.key === "Enter") { event.preventDefault(); event.stopPropagation(); pick(hover); }
    if (!way) return;
    event.preventDefault();
    event.stopPropagation();
    let best = null, least = Infinity; // the nearest point that lies that way, within 60 degrees
    at.forEach(([a, b], i) => {
      const u = a - at[hover][0], v = b - at[hover][1], along = u * way[0] + v * way[1], d = u * u + v * v;
      if (i !== hover && along > 0.5 * Math.sqrt(d) && d < least) { least = d; best = i; }
    });
    if (best != null) { hover = best; draw(); }
  });
  function update() {
    const view = model.get("view");
    if (view.row != null) hover = view.row;
    draw();
    shown();
  }
  return { update };
}

// ---- from one clip to another ----

function morph(model, el) {
  const fixed = model.get("fixed"), { box, status, send, shown } = shell(model, el);
  const codes = maps(fixed, null), films = player(model, fixed.panels, { onFrame: redraw });
  const ends = ["a", "b"].map((end) => {
    const node = number(`clip ${end.toUpperCase()}`, 0, fixed.clips - 1, `tl-${end}`);
    node.addEventListener("change", () => send({ do: "choose", a: Number(ends[0].value), b: Number(ends[1].value) }));
    return node;
  });
  const how = h("select", { class: "tl-method", "aria-label": "way from A to B", onchange: () => send({ do: "use", method: how.value }) },
    ...fixed.methods.map(([value, text]) => h("option", { value }, text)));
  const step = h("input", { type: "range", class: "tl-step", min: 0, max: fixed.steps, "aria-label": "how far from A to B", style: "width: 260px",
    oninput: () => send({ do: "go", step: Number(step.value) }) });
  const where = h("span", { style: "min-width: 70px" });
  const key = h("div", { class: "tl-row" }, ...fixed.origins.map(([, name, colour]) => h("span", {}, h("span", { style: `color:${colour}` }, "■ "), name)));
  box.append(h("div", { class: "tl-row" }, h("label", {}, "A: clip ", ends[0]), h("label", {}, "B: clip ", ends[1]), h("label", {}, "way ", how)),
    h("div", { class: "tl-row" }, h("label", {}, "A ", step, " B"), where, ...films.controls, status),
    h("div", { class: "tl-row tl-top" }, ...films.films), codes.canvas, key);
  const colours = Object.fromEntries(fixed.origins.map(([sign, , colour]) => [sign, rgb(colour)]));

  function redraw() {
    const view = model.get("view"), now = Math.floor(films.frame() / fixed.frames * fixed.grid[0]);
    const fill = view.origin.map((rows) => rows.map((row) => row.map((sign) => colours[sign])));
    codes.draw({ text: view.text, fill, mark: view.origin.map((rows) => rows.map((row) => row.map(() => false))) }, null, now, view.label);
    films.captions(view.captions);
  }
  function update() {
    const view = model.get("view");
    films.draw();
    redraw();
    ends[0].value = view.a;
    ends[1].value = view.b;
    how.value = view.method;
    if (!box.matches("[aria-busy=true]") || document.activeElement !== step) step.value = view.step;
    where.textContent = `${view.step} of ${fixed.steps}`;
    shown();
  }
  return { update, close: films.close };
}

// ---- masks: choose what is given, and see the rest written ----

function masks(model, el) {
  const fixed = model.get("fixed"), { box, status, send, shown, queued } = shell(model, el);
  const films = player(model, fixed.panels, { onFrame: redraw });
  const each = (cells, act) => cells.map((rows) => rows.map((row) => row.map(act)));
  const kinds = Object.fromEntries(Object.entries(fixed.kinds).map(([name, colour]) => [name, rgb(colour)]));
  let cursor = null, draft = null, stroke = null; // draft: the mask as painted here; Python may be some strokes behind

  const { amount, choice, fill } = settings(fixed, send);
  const button = (name, text, act) => h("button", { class: `tl-${name}`, onclick: act }, text);
  const about = h("span"), said = h("div", { class: "tl-said" });
  const own = button("unpaint", "the task's mask", () => send({ do: "unpaint" }));

  // the mask: a click or a drag paints, and so do the arrows with space
  const mask = maps(fixed, (t, y, x) => { cursor = [t, y, x]; redraw(); });
  mask.canvas.classList.add("tl-mask");
  mask.canvas.style.touchAction = "none";
  const given = () => draft || model.get("view").given;
  function brush([t, y, x]) {
    if (given()[t][y][x] === stroke.given) return;
    draft = each(given(), (value) => value);
    draft[t][y][x] = stroke.given;
    stroke.cells.push([t, y, x]);
    redraw();
  }
  function begin(place) { stroke = { given: !given()[place[0]][place[1]][place[2]], cells: [] }; brush(place); }
  function end() {
    if (stroke) send({ do: "paint", cells: stroke.cells, given: stroke.given });
    stroke = null;
  }
  mask.canvas.addEventListener("pointerdown", (event) => {
    const place = mask.at(event);
    if (!place || event.button) return;
    mask.canvas.setPointerCapture(event.pointerId);
    begin(place);
  });
  mask.canvas.addEventListener("pointermove", (event) => { const place = stroke && mask.at(event); if (place) brush(place); });
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
  const tokens = maps(fixed, null), sure = maps(fixed, null);
  tokens.canvas.classList.add("tl-tokens");
  sure.canvas.classList.add("tl-sure");
  const step = h("input", { type: "range", class: "tl-step", min: 0, "aria-label": "step of decoding", style: "width: 260px", oninput: () => go(Number(step.value)) });
  const back = button("back", "◀ step", () => go(Number(step.value) - 1)), on = button("on", "step ▶", () => go(Number(step.value) + 1));
  const where = h("span", { style: "min-width: 150px" });
  function go(to) {
    const within = Math.min(model.get("view").last, Math.max(0, to));
    step.value = within;
    send({ do: "go", step: within });
  }
  const key = h("div", { class: "tl-row" }, ...Object.entries(fixed.kinds).map(([name, colour]) =>
    h("span", {}, h("span", { style: `color:${colour}` }, "■ "), name)), h("span", {}, "◤ in this step"));
  const bar = h("canvas", { width: 256, height: 1 }), g = bar.getContext("2d");
  fixed.luts.often.forEach((colour, i) => { g.fillStyle = css(colour); g.fillRect(i, 0, 1, 1); });
  const title = (text, hint) => h("div", {}, h("span", { class: "tl-title" }, text), " ", h("span", { class: "tl-hint" }, hint));

  box.append(
    h("div", { class: "tl-row" }, amount("clip", "clip"), about, choice("task", "task"), amount("frames", "frames given"), status),
    h("div", { class: "tl-row" }, title("Mask", "click or drag; or arrows and space"), own,
      button("all", "give all", () => send({ do: "fill", given: true })), button("none", "give nothing", () => send({ do: "fill", given: false }))),
    mask.canvas, said,
    h("div", { class: "tl-row" }, choice("label", "class"), amount("guidance", "guidance"), amount("steps", "steps"), amount("corrections", "corrections"),
      amount("temperature", "temperature"), amount("seed", "seed", 80)),
    h("div", { class: "tl-row" }, choice("order", "order"), choice("refine", "given tokens are"), button("decode", "decode", () => send({ do: "decode" }))),
    h("div", { class: "tl-row" }, back, step, on, where, ...films.controls),
    h("div", { class: "tl-row tl-top" }, ...films.films),
    h("div", { class: "tl-row" }, h("span", { class: "tl-title" }, "Tokens"), key), tokens.canvas,
    h("div", { class: "tl-row" }, title("Confidence", "probability of the word in each place, in %"),
      h("div", { class: "tl-legend", style: "width: 320px" }, h("div", { class: "tl-row" }, fixed.least, bar, "certain"))), sure.canvas);

  function redraw() {
    const view = model.get("view"), now = Math.floor(films.frame() / fixed.frames * fixed.grid[0]), cells = given();
    const count = cells.flat(2).filter(Boolean).length, none = each(cells, () => false);
    const at = cursor ? `; chosen: frames from ${cursor[0] * fixed.frames / fixed.grid[0]}, row ${cursor[1]}, column ${cursor[2]}, `
      + (cells[cursor[0]][cursor[1]][cursor[2]] ? "given" : "hidden") : "";
    mask.draw({ text: each(cells, (value) => (value ? "" : "?")), fill: each(cells, (value) => kinds[value ? "given" : "hidden"]), mark: none },
      cursor, now, `the mask: ${count} of ${cells.flat(2).length} tokens given${at}`);
    tokens.draw({ text: view.tokens.text, fill: each(view.tokens.kind, (name) => kinds[name]), mark: view.tokens.fresh }, null, now, view.label);
    sure.draw({ text: view.sure.text, fill: each(view.sure.value, (value) => (value < 0 ? kinds.hidden : fixed.luts.often[value])), mark: none },
      null, now, `how probable each word is after ${view.called}`);
    films.captions(view.captions);
  }
  function update() {
    const view = model.get("view");
    if (!stroke && !queued("paint")) draft = null;
    films.draw();
    redraw();
    fill(view);
    own.disabled = !view.painted;
    about.textContent = view.about;
    said.textContent = view.said;
    step.max = view.last || view.total;
    if (!queued("go")) step.value = view.step;
    step.disabled = !view.last;
    back.disabled = view.step === 0;
    on.disabled = view.step === view.last;
    where.textContent = view.last ? `${view.called} (${view.step} of ${view.total})` : "not decoded yet";
    shown();
  }
  return { update, close: films.close };
}

// ---- a path: draw it, and see the clip that is written along it ----

function path(model, el) {
  const fixed = model.get("fixed"), { box, status, send, shown, queued } = shell(model, el), { plan: blue, seen: red } = fixed.colours;
  const films = player(model, fixed.panels, { onFrame: redraw }), { amount, fill } = settings(fixed, send);
  const button = (name, text, act) => h("button", { class: `tl-${name}`, onclick: act }, text);
  const side = 324 * (window.devicePixelRatio || 1);
  const pad = h("canvas", { class: "tl-pad", width: side, height: side, role: "img", style: "touch-action: none" });
  let draft = null, drawing = false; // draft: the stroke as drawn here, until Python has answered it

  function to(event) {
    const at = pad.getBoundingClientRect(), place = (value, low, length) => Number(((value - low) / length * fixed.size - 0.5).toFixed(2));
    draft.push([place(event.clientX, at.left, at.width), place(event.clientY, at.top, at.height)]);
    redraw();
  }
  pad.addEventListener("pointerdown", (event) => {
    if (event.button || !event.isPrimary) return;
    pad.setPointerCapture(event.pointerId);
    drawing = true;
    draft = [];
    to(event);
  });
  pad.addEventListener("pointermove", (event) => { if (drawing && event.isPrimary) to(event); });
  pad.addEventListener("pointerup", (event) => {
    if (!drawing || !event.isPrimary) return;
    drawing = false;
    send({ do: "draw", points: draft });
  });
  pad.addEventListener("pointercancel", () => { if (drawing) { drawing = false; draft = null; redraw(); } });

  const family = h("select", { class: "tl-family", "aria-label": "class of the path" }, ...fixed.families.map((name) => h("option", { value: name }, name)));
  const other = button("another", "another seed", () => send({ do: "set", name: "seed", value: model.get("view").settings.seed + 1 }));
  const planned = h("span", { class: "tl-row" }, h("label", {}, "or let the planner draw one: class ", family),
    button("plan", "plan one for me", () => send({ do: "plan", family: family.value })));
  const mark = (sign, colour, text) => h("span", {}, h("b", { style: `color: ${colour}; background: #fff; padding: 0 3px` }, sign), ` ${text} `);
  const said = h("span", { class: "tl-said tl-title" }), about = h("span", { class: "tl-hint" });
  box.append(
    h("div", { class: "tl-row" }, h("span", { class: "tl-title" }, "Draw a path"), h("span", { class: "tl-hint" }, "below, with the mouse or a finger"),
      ...(fixed.families.length ? [planned] : []), status),
    h("div", { class: "tl-row" }, amount("radius", "radius, px"), amount("seed", "seed", 80), other, ...films.controls),
    h("div", { class: "tl-row tl-top" },
      h("figure", {}, h("div", { class: "tl-film" }, pad),
        h("figcaption", {}, mark("○", blue, "the plan, frame by frame"), mark("●", red, "the dot in the film"))),
      ...films.films),
    h("div", { class: "tl-row", "aria-live": "polite" }, said, about));

  function redraw() {
    const view = model.get("view"), g = pad.getContext("2d"), px = side / fixed.size, now = films.frame();
    g.setTransform(px, 0, 0, px, px / 2, px / 2); // a pixel's centre is a whole number
    g.fillStyle = "#fff"; // paper in either theme, as the films are
    g.fillRect(-0.5, -0.5, fixed.size, fixed.size);
    const line = (points, colour, width) => {
      g.beginPath();
      points.forEach(([x, y]) => g.lineTo(x, y));
      g.lineWidth = width;
      g.strokeStyle = colour;
      g.stroke();
    };
    const disc = ([x, y], radius) => { g.beginPath(); g.arc(x, y, Math.max(0, radius), 0, 7); };
    if (draft) return line(draft, "#222", 0.6);
    if (view.stroke) line(view.stroke, "#bbb", 0.6);
    line(view.plan, blue, 0.15);
    view.plan.forEach((dot, i) => {
      disc(dot, dot[2]);
      g.lineWidth = i === now ? 0.7 : 0.25;
      g.strokeStyle = blue;
      g.stroke();
    });
    view.seen.forEach((dot, i) => {
      if (!dot) return;
      line([view.plan[i], dot], red, 0.25);
      disc(dot, i === now ? 1.3 : 0.7);
      g.fillStyle = red;
      g.fill();
    });
    films.captions(view.captions);
  }
  function update() {
    const view = model.get("view");
    if (!drawing && !queued("draw")) draft = null;
    films.draw();
    redraw();
    fill(view);
    if (view.settings.family) family.value = view.settings.family;
    pad.setAttribute("aria-label", view.label);
    said.textContent = view.said;
    about.textContent = view.about;
    if (view.seq && !view.error) films.start();
    shown();
  }
  return { update, close: films.close };
}

function render({ model, el }) {
  const kinds = { player: filmPlayer, explorer, map: codeMap, morph, masks, path };
  const { update, close } = kinds[model.get("kind")](model, el);
  model.on("change:view", update);
  update();
  return () => { model.off("change:view", update); if (close) close(); };
}
export default { render };
