// Controls on the left; on the right the picture that they make, and the videos to play.

function canvas(model, el) {
  const fixed = model.get("fixed"), { box, send, shown, queued } = shell(model, el), fields = {};
  const set = (name, value) => send({ do: "set", name, value });
  const digits = (step) => (String(step).split(".")[1] || "").length;
  const rows = fixed.controls.flatMap(([name, label, hint, kind]) => {
    const [low, high, step] = kind, common = { class: `tl-${name}`, "aria-label": label, title: hint };
    let field, parts;
    if (low === "number") {
      field = h("input", { ...common, type: "number", min: high, max: step, onchange: () => set(name, field.value === "" ? null : Number(field.value)) });
    } else if (typeof low === "string") {
      field = h("select", { ...common, onchange: () => set(name, field.value) }, ...kind.map((value) => h("option", { value }, value)));
    } else {
      const value = h("output"), show = () => (value.textContent = Number(field.value).toFixed(digits(step)));
      field = h("input", { ...common, type: "range", min: low, max: high, step, oninput: () => { show(); set(name, Number(field.value)); } });
      parts = [field, value];
      fields[name] = { field, show };
    }
    fields[name] = { show: () => {}, ...fields[name], field };
    if (!parts) field.classList.add("tl-wide");
    fields[name].label = h("label", { title: hint }, label);
    return [fields[name].label, ...(parts || [field])];
  });
  const picture = h("img", { class: "tl-picture studio" }), note = h("div", { class: "studio-note" });
  const videos = fixed.panels.length ? player(model, fixed.panels) : null;
  const left = h("div", { class: "tl-column" }, h("div", { class: "tl-sliders" }, ...rows),
    h("div", { class: "tl-row" }, ...fixed.buttons.map(([name, text, hint]) => button(name, text, hint, () => send({ do: name })))),
    ...(videos ? [h("div", { class: "tl-row" }, ...videos.controls), ...videos.videos] : []));
  box.append(h("div", { class: "tl-row tl-top" }, left, h("div", { class: "tl-column", style: "flex: 1 1 300px; max-width: 520px" }, picture, note)));
  let url = null;
  function update() {
    const view = model.get("view"), old = url;
    url = URL.createObjectURL(new Blob([bytes(model.get("picture"))], { type: "image/png" }));
    picture.onload = () => { if (old) URL.revokeObjectURL(old); };
    picture.src = url;
    picture.alt = view.note;
    note.textContent = view.note;
    for (const [name, { field, show, label }] of Object.entries(fields)) {
      if (!queued("set")) field.value = view.values[name];
      field.disabled = view.off.includes(name);
      label.classList.toggle("tl-off", field.disabled);
      show();
    }
    if (videos) { videos.draw(); videos.captions(view.captions); }
    shown();
  }
  return { update, close: () => { if (videos) videos.close(); URL.revokeObjectURL(url); } };
}
