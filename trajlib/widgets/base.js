// What the studios share. Plain DOM and canvas, no import: it works without a network. Everything is computed in Python;
// here it is drawn, and clicks are sent. Each studio's own file, appended to this one, defines `canvas(model, el)`.
//
// A model has: kind; fixed (sent once); videos and still {name: bytes, frames x size x size of 3 or 1}, still ones change
// rarely; patches and picture (bytes); view (everything small, with a counter `seq`). A click is sent as {do: ..., ...} and
// answered by a new view; while one is being answered, later ones wait.

const STYLE = `
.tl { font: 13px/1.35 var(--jp-ui-font-family, system-ui); color: var(--jp-ui-font-color1, #222); max-width: 1120px;
  display: flex; flex-direction: column; gap: 6px; padding: 2px; }
.tl-row { display: flex; flex-wrap: wrap; gap: 6px 12px; align-items: center; }
.tl-top { align-items: flex-start; column-gap: 8px; } .tl-column { display: flex; flex-direction: column; gap: 6px; }
.tl figure { margin: 0; } .tl figcaption { font-size: 12px; line-height: 16px; min-height: 32px; max-width: 130px; }
.tl button, .tl select, .tl input[type=number], .tl input[type=text] { font: inherit; color: inherit; padding: 1px 7px;
  background: var(--jp-layout-color2, #f3f3f3); border: 1px solid var(--jp-border-color1, #999); border-radius: 3px; }
.tl button { cursor: pointer; } .tl button:disabled, .tl input:disabled, .tl select:disabled { opacity: .45; cursor: default; }
.tl button:focus-visible, .tl canvas:focus-visible, .tl select:focus-visible, .tl input:focus-visible {
  outline: 3px solid #E69F00; outline-offset: 1px; }
.tl button[aria-selected=true], .tl button[aria-pressed=true] { border-color: #0072B2; box-shadow: inset 0 -3px #0072B2; }
.tl input[type=number] { width: 56px; box-sizing: border-box; } .tl input[type=text] { width: 64px; box-sizing: border-box; }
.tl input[type=range] { margin: 0; }
.tl label { display: inline-flex; gap: 5px; align-items: center; }
.tl-video { position: relative; width: 128px; height: 128px; border: 1px solid var(--jp-border-color1, #999); }
.tl-video canvas { width: 100%; height: 100%; image-rendering: pixelated; display: block; }
.tl-video canvas.tl-picks { cursor: crosshair; }
.tl-path .tl-top { flex-wrap: nowrap; } .tl-path figure { flex: 0 1 322px; min-width: 0; }
.tl-path .tl-video { width: 100%; height: auto; aspect-ratio: 1; box-sizing: border-box; } .tl-path figcaption { min-height: 16px; max-width: 322px; }
.tl-cell { position: absolute; pointer-events: none; border: 2px solid #D55E00; box-sizing: border-box; }
.tl-cell.away { border-style: dotted; opacity: .6; }
.tl-strip { image-rendering: pixelated; border: 1px solid var(--jp-border-color1, #999); max-width: 100%; box-sizing: border-box; }
.tl-head { position: relative; min-height: 22px; } /* the line of the status; an error covers it, so that nothing below moves */
.tl-status { display: block; text-align: right; color: var(--jp-ui-font-color2, #555); }
.tl-error { position: absolute; inset: 0 0 auto 0; z-index: 2; color: #fff; background: #a00000; padding: 2px 8px;
  border-radius: 3px; }
.tl-error:empty { display: none; }
.tl[aria-busy=true] .tl-status { color: var(--jp-ui-font-color1, #222); font-weight: 600; }
.tl-items { display: flex; flex-wrap: wrap; gap: 4px; }
.tl-items button { padding: 2px; display: flex; flex-direction: column; align-items: center; font-size: 11px; }
.tl-items canvas { width: 66px; height: 32px; image-rendering: pixelated; }
.tl-title { font-weight: 600; } .tl-hint { color: var(--jp-ui-font-color2, #555); font-size: 12px; }
.tl-level { display: inline-flex; gap: 3px; align-items: center; margin-right: 6px; white-space: nowrap; }
.tl-level b { min-width: 1.2em; text-align: center; }
.tl-bar { display: grid; grid-template-columns: 72px 90px 50px; gap: 1px 6px; font-size: 12px; align-items: center; }
.tl-bar div { height: 10px; }
.tl .tl-decode { font-weight: 600; }
.tl-legend .tl-row { flex-wrap: nowrap; } .tl-legend canvas { flex: 1; min-width: 60px; height: 12px; }
.tl-sliders { display: grid; grid-template-columns: 150px 118px 48px; gap: 4px 8px; align-items: center; }
.tl-sliders label, .tl-sliders output { text-align: right; display: block; } .tl-sliders output { font-variant-numeric: tabular-nums; }
.tl-sliders input, .tl-sliders select { width: 100% !important; box-sizing: border-box; }
.tl-sliders .tl-wide { grid-column: 2 / 4; } .tl-sliders label.tl-off { opacity: .45; }
.tl-picture { max-width: 100%; height: auto; display: block; background: #fff; } /* never larger than its pixels */
`;

function h(tag, props = {}, ...children) {
  const node = document.createElement(tag);
  // otherwise JupyterLab, too, receives arrows and letters that are pressed here: it selects, copies, deletes cells by them
  if (["button", "canvas", "input", "select"].includes(tag)) node.dataset.lmSuppressShortcuts = "true";
  // and Enter, which confirms a number, would edit the cell
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
const textColour = (canvas) => getComputedStyle(canvas).color || getComputedStyle(document.body).getPropertyValue("--jp-ui-font-color1") || "#222";
const rgb = (hex) => [1, 3, 5].map((i) => parseInt(hex.slice(i, i + 2), 16));

// ---- what all of them share ----

// The frame around a widget: a line for status and errors, and the conversation with Python.
function shell(model, el) {
  const error = h("div", { class: "tl-error", role: "alert" });
  const status = h("span", { class: "tl-status", role: "status", "aria-live": "polite" });
  const box = h("div", { class: `tl tl-${model.get("kind")}`, "aria-busy": "false" });
  box.append(h("style", {}, STYLE), h("div", { class: "tl-head" }, status, error));
  el.append(box);
  const later = ["select", "go", "continue", "draw", "set"]; // of these only the last one counts
  let queue = [], waiting = null, sent = 0;
  function pump() {
    if (waiting || !queue.length) return;
    sent = performance.now();
    box.setAttribute("aria-busy", "true");
    status.textContent = "working …";
    waiting = setTimeout(() => (status.textContent = "no answer yet: the kernel is busy, or was restarted. After a restart: menu Run, Run All Above Selected Cell, then run this cell"), 6000);
    model.send(queue.shift());
  }
  function send(message) {
    if (later.includes(message.do)) queue = queue.filter((m) => m.do !== message.do || m.name !== message.name);
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
    box.dataset.seq = view.seq; // last: whoever waits for it finds everything drawn
    pump();
    if (view.more) send({ do: "continue" });
  }
  const queued = (what) => queue.some((message) => message.do === what);
  return { box, send, shown, queued };
}

const button = (name, text, hint, act) => h("button", { class: `tl-${name}`, title: hint, onclick: act }, text);

// Parts of which one is shown: [[name, text of its button, hint, node], ...].
function tabs(parts) {
  const choose = (chosen) => parts.forEach(([name, , , node], i) => { node.hidden = name !== chosen; node.style.display = node.hidden ? "none" : ""; buttons[i].setAttribute("aria-selected", String(!node.hidden)); });
  const buttons = parts.map(([name, text, hint]) => { const node = button(`tab-${name}`, text, hint, () => choose(name)); node.setAttribute("role", "tab"); return node; });
  choose(parts[0][0]);
  return [h("div", { class: "tl-row", role: "tablist" }, ...buttons), ...parts.map(([, , , node]) => node)];
}

// Videos in step: a canvas each, one button and one slider for all of them. With `onPick` a click selects a cell.
function player(model, panels, { onFrame = () => {}, onPick = null } = {}) {
  const fixed = model.get("fixed"), frames = fixed.frames, size = fixed.size;
  let frame = 0, timer = null;
  const videos = panels.map(({ name, lut }) => {
    const canvas = h("canvas", { width: size, height: size, role: "img", "data-video": name, class: onPick ? "tl-picks" : "" });
    const cell = h("div", { class: "tl-cell", hidden: "" });
    const caption = h("figcaption");
    if (onPick) canvas.addEventListener("click", (event) => {
      const at = canvas.getBoundingClientRect();
      const [t, hh, w] = fixed.grid;
      const part = (value, low, length, n) => Math.min(n - 1, Math.max(0, Math.floor((value - low) / length * n)));
      onPick(Math.floor(frame / frames * t), part(event.clientY, at.top, at.height, hh), part(event.clientX, at.left, at.width, w));
    });
    const node = h("figure", {}, h("div", { class: "tl-video" }, canvas, cell), caption);
    return { name, lut, canvas, cell, caption, node };
  });
  const play = h("button", { class: "tl-play", "aria-label": "play or pause the videos", title: "play or pause the videos", onclick: toggle }, "▶ play");
  const slider = h("input", { type: "range", class: "tl-frame", min: 0, max: frames - 1, value: 0, "aria-label": "frame", title: "the frame that is shown", style: "width: 120px",
    oninput: () => go(Number(slider.value)) });
  const label = h("span", { style: "min-width: 105px" });
  function toggle() {
    if (timer) { clearInterval(timer); timer = null; } else timer = setInterval(() => go((frame + 1) % frames), 150);
    play.textContent = timer ? "❚❚ pause" : "▶ play";
  }
  function go(to) { frame = to; draw(); onFrame(frame); }
  function draw() {
    slider.value = frame;
    label.textContent = `frame ${frame} of 0–${frames - 1}`;
    for (const video of videos) {
      const data = model.get("videos")[video.name] || model.get("still")[video.name];
      if (data && data.byteLength) paint(video.canvas, bytes(data), frame, size, video.lut && fixed.luts[video.lut]);
      video.canvas.dataset.frame = frame;
    }
  }
  // outline one cell of the grid in every video; dotted while other frames are shown
  function outline([t, y, x]) {
    const [nt, nh, nw] = fixed.grid;
    for (const { cell } of videos) {
      cell.hidden = false;
      cell.classList.toggle("away", Math.floor(frame / frames * nt) !== t);
      Object.assign(cell.style, { left: `${100 * x / nw}%`, top: `${100 * y / nh}%`, width: `${100 / nw}%`, height: `${100 / nh}%` });
    }
  }
  function captions(texts) {
    for (const { name, caption, canvas } of videos) {
      caption.textContent = texts[name] || name;
      canvas.setAttribute("aria-label", `${texts[name] || name}, ${label.textContent}`);
    }
  }
  const close = () => clearInterval(timer);
  const start = () => { if (!timer && !matchMedia("(prefers-reduced-motion: reduce)").matches) toggle(); };
  return { videos: videos.map((video) => video.node), controls: [play, slider, label], draw, go, outline, captions, start, close, frame: () => frame };
}

// One frame of a video of colours, or of numbers 0..255 through a colour table.
function paint(canvas, data, frame, size, lut) {
  const g = canvas.getContext("2d"), image = g.createImageData(size, size), n = size * size;
  const out = image.data.fill(255);
  for (let i = 0, from = frame * n * (lut ? 1 : 3); i < n; i++, from += lut ? 1 : 3) {
    const colour = lut && lut[data[from]];
    for (let k = 0; k < 3; k++) out[4 * i + k] = lut ? colour[k] : data[from + k]; // no array for each of so many pixels
  }
  g.putImageData(image, 0, 0);
}

// Maps of the tokens, one for each step in time, in as many rows as the width needs. `cells` has text, fill (colours), mark
// (changed?), each [t][y][x]; arrows move the selection.
function maps(fixed, onPick, cell = 24) {
  const [nt, nh, nw] = fixed.grid, gap = 8, top = 18, wide = nw * cell + gap, tall = top + nh * cell + 2, scale = window.devicePixelRatio || 1;
  const canvas = h("canvas", { class: "tl-maps", tabindex: onPick ? 0 : -1, role: "img", style: `cursor:${onPick ? "pointer" : "default"}` });
  let selected = null, columns = 0, last = null;
  function fit(width) { // all maps are visible: in one row, in two, in four, or below each other
    const most = [1, 2, 4].map((rows) => Math.ceil(nt / rows)).find((n) => n * wide - gap + 4 <= width) || 1;
    if (most === columns) return;
    columns = most;
    const [u, v] = [columns * wide - gap + 4, Math.ceil(nt / columns) * tall + 2];
    Object.assign(canvas, { width: u * scale, height: v * scale });
    Object.assign(canvas.style, { width: `${u}px`, height: `${v}px` });
    if (last) draw(...last);
  }
  const corner = (t) => [2 + (t % columns) * wide, Math.floor(t / columns) * tall];
  function at(event) { // the position under the pointer, or null
    const box = canvas.getBoundingClientRect(), u = event.clientX - box.left - 2, v = event.clientY - box.top;
    const column = Math.floor(u / wide), row = Math.floor(v / tall), t = row * columns + column;
    const x = Math.floor((u - column * wide) / cell), y = Math.floor((v - row * tall - top - 2) / cell);
    return column >= 0 && column < columns && t >= 0 && t < nt && x >= 0 && x < nw && y >= 0 && y < nh ? [t, y, x] : null;
  }
  if (onPick) {
    canvas.addEventListener("click", (event) => { const position = at(event); if (position) onPick(...position); });
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
    last = [cells, chosen, frameNow, label];
    selected = chosen;
    const g = canvas.getContext("2d"), colour = textColour(canvas);
    g.setTransform(scale, 0, 0, scale, 0, 0);
    g.clearRect(0, 0, canvas.width, canvas.height);
    g.textAlign = "center";
    g.textBaseline = "middle";
    for (let t = 0; t < nt; t++) {
      const now = t === frameNow, per = fixed.frames / nt, [left, low] = corner(t);
      g.fillStyle = colour;
      g.font = `${now ? "bold " : ""}11px sans-serif`;
      g.fillText(`${now ? "▶ " : ""}${per > 1 ? `frames ${t * per}–${(t + 1) * per - 1}` : `frame ${t}`}`, left + nw * cell / 2, low + 8);
      for (let y = 0; y < nh; y++) for (let x = 0; x < nw; x++) {
        const u = left + x * cell, v = low + top + 2 + y * cell, fill = cells.fill[t][y][x];
        g.fillStyle = css(fill);
        g.fillRect(u, v, cell - 1, cell - 1);
        g.fillStyle = dark(fill) ? "#fff" : "#000";
        const lines = cells.text[t][y][x].split("·"), longest = Math.max(...lines.map((line) => line.length));
        g.font = `${Math.min(10, Math.floor(1.5 * cell / longest))}px monospace`;
        lines.forEach((line, i) => g.fillText(line, u + cell / 2, v + cell / 2 + 10 * (i - (lines.length - 1) / 2)));
        if (cells.mark[t][y][x]) { g.beginPath(); g.moveTo(u, v); g.lineTo(u + 9, v); g.lineTo(u, v + 9); g.fill(); }
      }
    }
    if (chosen) {
      const [t, y, x] = chosen, [left, low] = corner(t);
      g.lineWidth = 3;
      g.strokeStyle = "#D55E00";
      g.strokeRect(left + x * cell, low + top + 2 + y * cell, cell - 1, cell - 1);
    }
    canvas.setAttribute("aria-label", label);
    canvas.dataset.tokens = cells.text.flat(2).join(" ");
  }
  fit(Infinity);
  const node = h("div", { style: "width: 100%; min-width: 0" }, canvas), watch = new ResizeObserver(([entry]) => fit(entry.contentRect.width));
  watch.observe(node);
  return { canvas, node, draw, at };
}

// A patch of some frames, side by side with a gap.
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
  return h("input", { type: "number", class: className, min: 0, max, value, "aria-label": label, title: `${label}, 0 to ${max}` });
}

// A labelled control for each setting; `fill` shows their values in Python.
function settings(fixed, send) {
  const fields = {}, set = (name, value) => send({ do: "set", name, value });
  function amount(name, text, hint, width = 54) {
    const [min, max, step] = fixed.numbers[name];
    fields[name] = h("input", { type: "number", class: `tl-${name}`, min, max, step, "aria-label": text, title: `${hint}, ${min} to ${max}`,
      style: `width: ${width}px`,
      onchange: () => set(name, fields[name].value === "" ? null : Number(fields[name].value)) });
    return h("label", {}, text, fields[name]);
  }
  function choice(name, text, hint) {
    const options = fixed.choices[name];
    fields[name] = h("select", { class: `tl-${name}`, "aria-label": text, title: hint, onchange: () => set(name, options[fields[name].selectedIndex][0]) },
      ...options.map(([value, label]) => h("option", { value }, label)));
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

function render({ model, el }) {
  const { update, close } = canvas(model, el);
  model.on("change:view", update);
  update();
  return () => { model.off("change:view", update); if (close) close(); };
}
export default { render };
