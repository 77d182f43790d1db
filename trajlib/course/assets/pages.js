// Figures that turn, enlarge, and pause. Without this script, pages lose these and nothing else.

const nearby = new IntersectionObserver(
  (entries) => {
    for (const { target: box } of entries.filter((entry) => entry.isIntersecting)) {
      nearby.unobserve(box);
      const figure = JSON.parse(box.querySelector("script").textContent);
      Plotly.newPlot(box, figure.data, figure.layout, { responsive: true, displaylogo: false, ...figure.config });
    }
  },
  { rootMargin: "600px" },
);
document.querySelectorAll(".plotly-figure").forEach((box) => nearby.observe(box));

function enlarge(picture) {
  const dialog = document.createElement("dialog");
  dialog.className = "enlarged";
  const large = new Image();
  large.src = picture.src;
  large.alt = picture.alt;
  const close = document.createElement("button");
  close.textContent = "Close";
  dialog.append(close, large);
  dialog.addEventListener("click", () => dialog.close());
  dialog.addEventListener("keydown", (event) => event.key === "Escape" && dialog.close());
  dialog.addEventListener("close", () => dialog.remove());
  document.body.append(dialog);
  dialog.showModal();
  close.focus();
}

for (const link of document.querySelectorAll("figure.shown a")) {
  link.addEventListener("click", (event) => {
    event.preventDefault();
    enlarge(link.querySelector("img"));
  });
}

// An animated PNG cannot be stopped: its first frame takes its place.
for (const picture of document.querySelectorAll("img[data-still]")) {
  const moving = picture.src;
  const still = new URL(picture.dataset.still, document.baseURI).href;
  const button = document.createElement("button");
  button.type = "button";
  const play = (yes) => {
    picture.src = yes ? moving : still;
    button.textContent = yes ? "Pause" : "Play";
  };
  button.addEventListener("click", () => play(picture.src === still));
  picture.closest("figure").append(button);
  play(!matchMedia("(prefers-reduced-motion: reduce)").matches);
}
