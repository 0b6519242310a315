"use strict";
// Stacked panels over one time axis; a cursor follows the playback.

const CURVES = { left: 82, right: 14 };
let curveScale = null;

function drawCurves(run, seek) {
  const svg = $("curves"), width = svg.getBoundingClientRect().width || 1100;
  const x = (t) => CURVES.left + (t / Math.max(run.end, 0.1)) * (width - CURVES.left - CURVES.right);
  svg.replaceChildren();
  const events = element("g");
  let y = 22;
  const add = (height, draw) => { draw(y, height); y += height + 24; };
  const { ego } = run, has = (name) => ego[name].some((v) => !Number.isNaN(v));

  const top = Math.max(10, Math.ceil((run.topSpeed * 3.6 + 2) / 10) * 10);
  add(130, (y0, h) => {
    const at = panel(svg, x, width, y0, h, "Speed", "km/h", 0, top, [0, top / 2, top]);
    svg.append(area(ego.t, ego.speed, x, (v) => at(v * 3.6), at(0), "var(--accent)"));
    if (has("desired")) svg.append(line(ego.t, ego.desired, x, (v) => at(Math.min(top, v * 3.6)), "var(--walker)", "5 3"));
    svg.append(line(ego.t, ego.speed, x, (v) => at(v * 3.6), "var(--accent)"));
    legend(svg, width, y0, has("desired") ? [["actual", "var(--accent)"], ["desired", "var(--walker)"]] : [["actual", "var(--accent)"]]);
  });
  add(62, (y0, h) => {
    const at = panel(svg, x, width, y0, h, "Pedals", "", 0, 1, [0, 1]);
    svg.append(area(ego.t, ego.throttle, x, at, at(0), "var(--good)"), line(ego.t, ego.throttle, x, at, "var(--good)"));
    svg.append(area(ego.t, ego.brake, x, at, at(0), "var(--bad)"), line(ego.t, ego.brake, x, at, "var(--bad)"));
    legend(svg, width, y0, [["throttle", "var(--good)"], ["brake", "var(--bad)"]]);
  });
  add(62, (y0, h) => {
    const most = Math.max(0.1, ...Array.from(ego.steer, Math.abs)), at = panel(svg, x, width, y0, h, "Steer", "", -most, most, [-most, 0, most]);
    svg.append(line(ego.t, ego.steer, x, at, "var(--accent)"));
    const kicks = ego.perturbation.some((v) => v);
    if (kicks) svg.append(line(ego.t, ego.perturbation, x, at, "var(--bike)"));
    legend(svg, width, y0, kicks ? [["right is up", "var(--accent)"], ["kick", "var(--bike)"]] : [["right is up", "var(--accent)"]]);
  });
  if (has("latency")) add(56, (y0, h) => {
    const most = Math.max(0.01, ...Array.from(ego.latency, (v) => v || 0)), at = panel(svg, x, width, y0, h, "Latency", "ms", 0, most * 1000, [0, most * 1000]);
    svg.append(line(ego.t, ego.latency, x, (v) => at(v * 1000), "var(--accent)"));
  });
  if (has("answer")) add(46, (y0, h) => {
    const most = Math.max(20, Math.ceil(Math.max(...Array.from(ego.answer, (v) => v || 0)) * 100) * 10);
    const at = panel(svg, x, width, y0, h, "Answer", "ms", 0, most, [0, most]);
    svg.append(line(ego.t, ego.answer, x, (v) => at(v * 1000), "var(--accent)"));
    legend(svg, width, y0, [["tokens to plan, wall clock", "var(--accent)"]]);
  });
  if (has("completed")) add(40, (y0, h) => {
    const at = panel(svg, x, width, y0, h, "Done", "P", 0, 1, [0, 1]);
    svg.append(line(ego.t, ego.completed, x, at, "var(--good)"));
    legend(svg, width, y0, [["instruction carried out, says the model", "var(--good)"]]);
  });
  if (has("light")) add(13, (y0, h) => strip(svg, y0, h, "Light", segments(ego.t, ego.light), x, run.end, (v) => v >= 0 && { fill: `var(--${LIGHTS[v]})`, word: LIGHT_WORDS[v] }));
  if (run.seen) addSightCurves(svg, run, x, width, add);
  for (const [name, label] of [["driver", "Drives"], ["planner_state", "Planner"], ["instruction", "Told"], ["notice", "Notice"], ["expert", "Expert"]]) {
    const track = run.texts[name] ?? [];
    if (!track.length) continue;
    const parts = track.map(([t, text], i) => ({ from: t, to: i + 1 < track.length ? track[i + 1][0] : run.end, value: text }));
    const drives = { adllm: "var(--accent-soft)", adm: "var(--warn-soft)", nobody: "var(--bad-soft)" };
    const calm = (text) => /^(|FOLLOWING|cruise.*|following.*)$/i.test(text);
    add(17, (y0, h) => strip(svg, y0, h, label, parts, x, run.end, (text) => text && { fill: name === "driver" ? drives[text.split(":")[0]] ?? "var(--line)" : calm(text) ? "var(--line)" : "var(--accent-soft)", word: text, write: true }));
  }
  axis(svg, x, width, y, run.end);
  for (const event of run.infractions.filter((e) => e.placed)) {
    events.append(element("line", { x1: x(event.t), x2: x(event.t), y1: 18, y2: y - 10, stroke: "var(--bad)", "stroke-width": 1.2, "stroke-dasharray": "3 2" }),
      element("circle", { cx: x(event.t), cy: 10, r: 8, fill: "var(--bad)" }, element("title", {}, `${event.label}, ${clockText(event.t)}`)),
      element("text", { x: x(event.t), y: 14, "text-anchor": "middle", style: "fill:var(--panel);font-weight:700;font-size:10.5px" }, String(event.no)));
  }
  const cursor = element("line", { id: "cursor", y1: 18, y2: y - 10, stroke: "var(--ink)", "stroke-width": 1.2 });
  svg.append(events, cursor);
  svg.setAttribute("viewBox", `0 0 ${width} ${y + 18}`);
  svg.style.height = `${y + 18}px`;
  curveScale = x;
  svg.onclick = (click) => {
    const at = (click.clientX - svg.getBoundingClientRect().left - CURVES.left) / (width - CURVES.left - CURVES.right);
    seek(at * run.end);
  };
}

function moveCursor(t) {
  const cursor = $("cursor");
  if (!cursor || !curveScale) return;
  cursor.setAttribute("x1", curveScale(t));
  cursor.setAttribute("x2", curveScale(t));
}

function panel(svg, x, width, y0, h, name, unit, low, high, ticks) {
  const at = (v) => y0 + h - ((v - low) / (high - low)) * h;
  for (const tick of ticks) {
    svg.append(element("line", { x1: CURVES.left, x2: width - CURVES.right, y1: at(tick), y2: at(tick), stroke: "var(--line)" }),
      element("text", { x: CURVES.left - 7, y: at(tick) + 4, "text-anchor": "end" }, Number.isInteger(tick) ? String(tick) : tick.toFixed(high > 20 ? 0 : 2)));
  }
  svg.append(element("text", { x: 0, y: y0 + h / 2 - 3, style: "fill:var(--ink);font-weight:600" }, name), element("text", { x: 0, y: y0 + h / 2 + 11 }, unit));
  return at;
}

function legend(svg, width, y0, entries) {
  let right = width - CURVES.right - 22;  // the number of an infraction at the very end stays clear
  for (const [word, color] of entries.slice().reverse()) {
    svg.append(element("text", { x: right, y: y0 - 4, "text-anchor": "end" }, word));
    right -= word.length * 6 + 8;
    svg.append(element("rect", { x: right - 8, y: y0 - 9, width: 10, height: 3, fill: color }));
    right -= 20;
  }
}

function line(times, values, x, y, color, dash = "none") {
  let d = "", pen = false;
  for (let i = 0; i < times.length; i++) {
    if (Number.isNaN(values[i])) { pen = false; continue; }
    d += `${pen ? "L" : "M"}${x(times[i]).toFixed(1)} ${y(values[i]).toFixed(1)}`;
    pen = true;
  }
  return element("path", { d, fill: "none", stroke: color, "stroke-width": 1.5, "stroke-dasharray": dash, "stroke-linejoin": "round" });
}

function area(times, values, x, y, base, color) {
  if (!times.length) return element("g");
  let d = `M${x(times[0]).toFixed(1)} ${base.toFixed(1)}`;
  for (let i = 0; i < times.length; i++) d += `L${x(times[i]).toFixed(1)} ${y(values[i] || 0).toFixed(1)}`;
  return element("path", { d: `${d}L${x(times[times.length - 1]).toFixed(1)} ${base.toFixed(1)}Z`, fill: color, opacity: 0.14 });
}

function segments(times, values) {
  const parts = [];
  for (let i = 0; i < times.length; i++) {
    const value = Number.isNaN(values[i]) ? -1 : values[i], last = parts[parts.length - 1];
    if (last && last.value === value) last.to = times[i];
    else { if (last) last.to = times[i]; parts.push({ from: times[i], to: times[i], value }); }
  }
  return parts;
}

function strip(svg, y0, h, name, parts, x, end, look) {
  svg.append(element("text", { x: 0, y: y0 + h / 2 + 4, style: "fill:var(--ink);font-weight:600" }, name),
    element("rect", { x: x(0), y: y0 + h / 2, width: x(end) - x(0), height: 1, fill: "var(--line)" }));
  for (const part of parts) {
    const style = look(part.value);
    if (!style) continue;
    const width = Math.max(1.5, x(part.to) - x(part.from));
    svg.append(element("rect", { x: x(part.from), y: y0, width: Math.max(1, width - 1), height: h, rx: 2.5, fill: style.fill }, element("title", {}, `${style.word}, ${clockText(part.from)} to ${clockText(part.to)}`)));
    const room = Math.floor((width - 10) / 6);
    if (style.write && room > 4) {
      const word = style.word.length > room ? style.word.slice(0, room - 1) + "…" : style.word;
      svg.append(element("text", { x: x(part.from) + 5, y: y0 + h / 2 + 4, style: "fill:var(--ink);pointer-events:none" }, word));
    }
  }
}

function axis(svg, x, width, y, end) {
  const step = [1, 2, 5, 10, 20, 30, 60, 120, 300, 600].find((s) => end / s <= 12) ?? 1200;
  for (let t = 0; t <= end; t += step) {
    svg.append(element("line", { x1: x(t), x2: x(t), y1: y - 10, y2: y - 5, stroke: "var(--soft)" }),
      element("text", { x: x(t), y: y + 7, "text-anchor": "middle" }, `${Math.floor(t / 60)}:${String(Math.round(t % 60)).padStart(2, "0")}`));
  }
  svg.append(element("line", { x1: x(0), x2: x(end), y1: y - 10, y2: y - 10, stroke: "var(--soft)" }));
}
