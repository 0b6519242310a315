"use strict";
// Ties the parts together: which run is shown, keys, theme.

const DATA = JSON.parse($("data").textContent);
const opened = new Map(), towns = new Map();
let current = -1;

async function select(index) {
  current = index;
  const source = DATA.runs[index];
  if (!towns.has(source.town)) towns.set(source.town, await openTown(DATA.towns[source.town]));
  if (!opened.has(index)) opened.set(index, await openRun(source, towns.get(source.town)));
  if (current !== index) return;  // another one was chosen meanwhile
  const run = opened.get(index);
  document.querySelectorAll("#routes tbody tr").forEach((row, i) => i === index ? row.setAttribute("aria-current", "true") : row.removeAttribute("aria-current"));
  $("run-title").textContent = source.title;
  $("run-note").textContent = source.note;
  $("prev").disabled = index === 0;
  $("next").disabled = index === DATA.runs.length - 1;
  drawMap(run, seekTo);
  listInfractions(run, seekTo);
  drawCurves(run, seekTo);
  showRun(run);
  const link = /t=([\d.]+)/.exec(location.hash);
  if (link) seekTo(Number(link[1]));
  document.documentElement.dataset.ready = index;
}

function redraw() {
  if (!player.run) return;
  drawMap(player.run, seekTo);
  drawCurves(player.run, seekTo);
  render();
}

function setTheme(theme) {
  document.documentElement.dataset.theme = theme;
  palette = {};
  redraw();
}

$("routes").addEventListener("click", (click) => {
  const row = click.target.closest("[data-run]");
  if (row) select(Number(row.dataset.run));
});
$("prev").onclick = () => select(current - 1);
$("next").onclick = () => select(current + 1);
$("play").onclick = () => setPlaying(!player.playing);
$("time").oninput = () => { player.t = Number($("time").value); render(); };
$("zoom-in").onclick = () => zoom(1.3);
$("zoom-out").onclick = () => zoom(1 / 1.3);
function zoom(by) { player.zoom = Math.max(1, Math.min(30, player.zoom * by)); render(); }
document.querySelectorAll("[data-view]").forEach((button) => {
  button.onclick = () => {
    player.view = button.dataset.view;
    document.querySelectorAll("[data-view]").forEach((other) => other.setAttribute("aria-pressed", String(other === button)));
    render();
  };
});
document.addEventListener("keydown", (press) => {
  if (press.ctrlKey || press.metaKey || press.altKey || !player.run) return;
  const tag = press.target.tagName;
  if (press.key === " " && tag !== "BUTTON" && tag !== "SELECT") setPlaying(!player.playing);
  else if ((press.key === "ArrowLeft" || press.key === "ArrowRight") && tag !== "SELECT") seekTo(player.t + (press.key === "ArrowLeft" ? -1 : 1));
  else if (press.key === "," || press.key === ".") {
    const times = player.run.thumbs.times, i = indexAt(times, player.t) + (press.key === "," ? -1 : 1);
    if (i >= 0 && i < times.length) { setPlaying(false); seekTo(times[i]); }
  } else if (press.key === "i" || press.key === "I") {
    const after = player.run.infractions.filter((e) => e.placed);
    const next = after.find((e) => e.t - 2 > player.t + 0.1) ?? after[0];
    if (next) seekTo(next.t - 2);
  } else return;
  press.preventDefault();
});
$("theme").onclick = () => setTheme(document.documentElement.dataset.theme === "dark" ? "light" : "dark");
const dark = matchMedia("(prefers-color-scheme: dark)");
dark.addEventListener("change", () => setTheme(dark.matches ? "dark" : "light"));
let themeBefore = "light";
addEventListener("beforeprint", () => { themeBefore = document.documentElement.dataset.theme; setTheme("light"); });
addEventListener("afterprint", () => setTheme(themeBefore));
addEventListener("resize", redraw);
document.documentElement.dataset.theme = /theme=(dark|light)/.exec(location.hash)?.[1] ?? (dark.matches ? "dark" : "light");
select(Number(/run=(\d+)/.exec(location.hash)?.[1] ?? 0));
