"use strict";
// Without this script the samples stand as a plain grid; with it one can flip through them and compare.
for (const viewer of document.querySelectorAll(".viewer")) {
  const images = [...document.getElementById(viewer.dataset.images).querySelectorAll("img")];
  const samples = images.filter((image) => image.dataset.kind === "sample");
  const others = images.filter((image) => image.dataset.kind !== "sample");
  const shown = viewer.querySelector("img");
  const name = viewer.querySelector(".name");
  const range = viewer.querySelector("input");
  const choice = viewer.querySelector("select");
  const button = viewer.querySelector("button");
  if (!samples.length || !others.length) continue;
  for (const image of others) choice.add(new Option(image.dataset.name, String(choice.length)));
  range.max = String(samples.length - 1);
  let comparing = false;
  const show = () => {
    const image = comparing ? others[choice.selectedIndex] : samples[Number(range.value)];
    shown.src = image.src;
    shown.alt = image.alt;
    name.textContent = image.dataset.name;
    range.setAttribute("aria-valuetext", samples[Number(range.value)].dataset.name);
    button.setAttribute("aria-pressed", String(comparing));
  };
  range.addEventListener("input", () => { comparing = false; show(); });
  choice.addEventListener("change", () => { comparing = true; show(); });
  button.addEventListener("click", () => { comparing = !comparing; show(); });
  show();
  viewer.hidden = false;
}
