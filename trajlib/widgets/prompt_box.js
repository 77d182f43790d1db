// The prompt box: write a sentence, see the clip that is made from it, and which of its slots the clip fulfils.

function canvas(model, el) {
  const fixed = model.get("fixed"), { box, send, shown } = shell(model, el), [yes, no] = fixed.colours;
  const videos = player(model, fixed.panels), { amount, fill } = settings(fixed, send);
  const text = h("input", { type: "text", class: "tl-text", "aria-label": "sentence", title: "Enter makes the clip", maxlength: 200, style: "width: 480px",
    onkeydown: (event) => { if (event.key === "Enter") write(); }, oninput: () => { clearTimeout(later); later = setTimeout(suggest, 300); } });
  let later = null;
  const write = () => { clearTimeout(later); send({ do: "write", text: text.value }); };
  const suggest = () => send({ do: "suggest", text: text.value });
  const another = button("another", "another seed", "the same sentence, other random numbers", () => send({ do: "set", name: "seed", value: model.get("view").settings.seed + 1 }));
  const next = h("span", { class: "tl-items tl-next", role: "group", "aria-label": "words that may come next" });
  const chips = h("span", { class: "tl-items tl-chips", role: "group", "aria-label": "the sentence; press a word to replace it" });
  const checks = h("ul", { class: "tl-checks", "aria-live": "polite", style: "list-style: none; margin: 0; padding: 0" });
  const read = h("div", { class: "tl-read", "aria-live": "polite" }), summary = h("span", { class: "tl-summary tl-title" });
  box.append(
    h("div", { class: "tl-row" }, h("span", { class: "tl-title" }, "Write a sentence"), text, button("make", "make the clip", "a clip from this sentence", write)),
    h("div", { class: "tl-row" }, h("span", { class: "tl-hint" }, "next word:"), next),
    h("div", { class: "tl-row" }, h("span", { class: "tl-hint" }, "replace a word:"), chips),
    h("div", { class: "tl-row" }, amount("seed", "seed", "of the random numbers", 80), another, ...videos.controls),
    h("div", { class: "tl-row tl-top" }, ...videos.videos, h("div", {}, summary, checks,
      button("read", "read this clip", "what the model writes about the clip", () => { read.textContent = `“${model.get("view").read}”`; }), read)));

  function update() {
    const view = model.get("view"), typing = document.activeElement === text && view.draft !== view.text;
    if (!typing && !view.error) text.value = view.draft;
    next.replaceChildren(...view.suggestions.slice(0, 40).map((word) => button("word", word, `append “${word}”`, () => {
      text.value = `${text.value.trim()} ${word}`.trim();
      suggest();
    })));
    chips.replaceChildren(...view.chips.map(({ text: words, slot }, number) => slot
      ? button("chip", words, `${slot}: another value`, () => send({ do: "replace", number }))
      : h("span", { style: "padding: 2px" }, words)));
    checks.replaceChildren(...view.checks.map(({ slot, asked, found, fulfilled }) => h("li", { class: fulfilled ? "tl-yes" : "tl-no" },
      h("b", { style: `color: ${fulfilled ? "#009E73" : "#D55E00"}` }, fulfilled ? yes : no), ` ${slot}: ${asked}${fulfilled ? "" : `, found ${found}`}`)));
    summary.textContent = view.summary;
    if (read.dataset.text !== view.text + view.settings.seed) { read.textContent = ""; read.dataset.text = view.text + view.settings.seed; }
    videos.draw();
    videos.captions(view.captions);
    fill(view);
    if (view.seq && !view.error) videos.start();
    shown();
  }
  return { update, close: () => { clearTimeout(later); videos.close(); } };
}
