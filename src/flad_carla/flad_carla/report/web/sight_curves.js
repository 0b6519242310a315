"use strict";
// The encoder along the run: the light it sees against the true one, vehicles, latency.

function addSightCurves(svg, run, x, width, add) {
  const { moments } = run, { t } = moments;
  add(46, (y0, h) => {
    for (const part of segments(t, moments.red_true)) {
      if (part.value === 1) svg.append(element("rect", { x: x(part.from), y: y0, width: Math.max(1.5, x(part.to) - x(part.from)), height: h, fill: "var(--red)", opacity: 0.16 }, element("title", {}, `a red light asks to stop, ${clockText(part.from)} to ${clockText(part.to)}`)));
    }
    const at = panel(svg, x, width, y0, h, "Sees red", "P", 0, 1, [0, 1]);
    svg.append(line(t, moments.red, x, at, "var(--seen)"));
    for (const part of segments(t, t.map((_, i) => wrongLight(moments, i)))) {
      if (part.value === 1) svg.append(element("rect", { x: x(part.from), y: y0 + h + 3, width: Math.max(2.5, x(part.to) - x(part.from)), height: 4, rx: 2, fill: "var(--missed)" }, element("title", {}, `wrong, ${clockText(part.from)} to ${clockText(part.to)}`)));
    }
    legend(svg, width, y0, [["predicted", "var(--seen)"], ["truly red", "color-mix(in srgb, var(--red) 35%, var(--panel))"], ["wrong", "var(--missed)"]]);
  });
  add(50, (y0, h) => {
    const all = t.map((_, i) => moments.found[i] + moments.missed[i]), most = Math.max(2, ...all, ...moments.extra);
    const at = panel(svg, x, width, y0, h, "Vehicles", "in view", 0, most, [0, most]);
    svg.append(steps(t, all, x, at, run.end, "var(--missed)", 0.55), steps(t, moments.found, x, at, run.end, "var(--truth)", 1));
    svg.append(line(t, moments.extra, x, at, "var(--seen)"));
    legend(svg, width, y0, [["found", "var(--truth)"], ["missed", "var(--missed)"], ["false boxes", "var(--seen)"]]);
  });
  if (moments.latency.some((v) => !Number.isNaN(v))) add(46, (y0, h) => {
    const most = Math.max(10, Math.ceil(Math.max(...Array.from(moments.latency, (v) => v || 0)) * 100) * 10);
    const at = panel(svg, x, width, y0, h, "Encoder", "ms", 0, most, [0, most]);
    svg.append(line(t, moments.latency, x, (v) => at(v * 1000), "var(--seen)"));
    legend(svg, width, y0, [["sensors to prediction, wall clock", "var(--seen)"]]);
  });
}

const wrongLight = (moments, i) => Number(!Number.isNaN(moments.red_true[i]) && !(moments.red_true[i] === 1 ? moments.red[i] >= 0.5 : moments.red[i] < 0.5));

// A filled stair from each moment to the next.
function steps(times, values, x, y, end, color, opacity) {
  let d = `M${x(times[0]).toFixed(1)} ${y(0).toFixed(1)}`;
  for (let i = 0; i < times.length; i++) {
    const until = i + 1 < times.length ? times[i + 1] : Math.min(end, times[i] + 0.1);
    d += `L${x(times[i]).toFixed(1)} ${y(values[i]).toFixed(1)}L${x(until).toFixed(1)} ${y(values[i]).toFixed(1)}`;
  }
  return element("path", { d: `${d}V${y(0).toFixed(1)}Z`, fill: color, opacity });
}
