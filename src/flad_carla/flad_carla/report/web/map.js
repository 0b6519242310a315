"use strict";
// The still picture: lanes, route, driven path coloured by speed, infractions with numbers.

const ROAD_KINDS = { driving: "road", bidirectional: "road", parking: "road", biking: "road", shoulder: "pavement", sidewalk: "pavement", median: "pavement", border: "pavement" };

function pathOf(points, close = false) {
  return "M" + points.map(([x, y]) => x.toFixed(2) + " " + y.toFixed(2)).join("L") + (close ? "Z" : "");
}

function boundsOf(run, margin) {
  let [x0, x1, y0, y1] = [Infinity, -Infinity, Infinity, -Infinity];
  for (const { x, y } of [run.ego, run.route]) {
    for (let i = 0; i < x.length; i++) {
      x0 = Math.min(x0, x[i]); x1 = Math.max(x1, x[i]); y0 = Math.min(y0, y[i]); y1 = Math.max(y1, y[i]);
    }
  }
  if (!isFinite(x0)) return { x: -50, y: -50, w: 100, h: 100 };
  return { x: x0 - margin, y: y0 - margin, w: x1 - x0 + 2 * margin, h: y1 - y0 + 2 * margin };
}

function drawMap(run, seek) {
  const svg = $("map"), box = boundsOf(run, 25), frame = svg.getBoundingClientRect();
  const aspect = frame.width / frame.height || 1.6;  // fill the frame, so that no half of it stays bare
  if (box.w / box.h < aspect) { box.x -= (box.h * aspect - box.w) / 2; box.w = box.h * aspect; }
  else { box.y -= (box.w / aspect - box.h) / 2; box.h = box.w / aspect; }
  const unit = box.w / (frame.width || 800);  // metres per pixel
  svg.setAttribute("viewBox", `${box.x} ${box.y} ${box.w} ${box.h}`);
  svg.replaceChildren();
  const inside = (lane) => [...lane.left, ...lane.right].some(([x, y]) => x > box.x - 20 && x < box.x + box.w + 20 && y > box.y - 20 && y < box.y + box.h + 20);
  const lanes = run.lanes.filter(inside);
  for (const layer of ["pavement", "road"]) {
    const d = lanes.filter((lane) => (ROAD_KINDS[lane.kind] ?? "ground") === layer)
      .map((lane) => pathOf([...lane.left, ...lane.right.slice().reverse()], true)).join("");
    svg.append(element("path", { d, fill: `var(--${layer})`, stroke: `var(--${layer})`, "stroke-width": 0.3 }));
  }
  const edges = lanes.filter((lane) => ROAD_KINDS[lane.kind] === "road" && !lane.isJunction).map((lane) => pathOf(lane.left) + pathOf(lane.right)).join("");
  svg.append(element("path", { d: edges, fill: "none", stroke: "var(--lane)", "stroke-width": Math.max(0.15, 0.5 * unit), opacity: 0.8 }));

  const route = Array.from(run.route.x, (x, i) => [x, run.route.y[i]]);
  if (route.length) {
    svg.append(element("path", { d: pathOf(route), fill: "none", stroke: "var(--route)", "stroke-width": Math.max(3, 9 * unit), "stroke-linecap": "round", "stroke-linejoin": "round", opacity: 0.85 }));
  }
  drawSpeedPath(svg, run, unit);
  if (route.length) {
    mark(svg, route[0], "A", unit, "var(--good)", "Start");
    mark(svg, route[route.length - 1], "B", unit, "var(--ink)", "Goal");
  }
  const ends = route.length ? [route[0], route[route.length - 1]] : [];
  for (const event of spread(run.infractions.filter((e) => e.placed), 16 * unit, ends)) {
    if (event.moved) svg.append(element("line", { x1: event.x, y1: event.y, x2: event.at[0], y2: event.at[1], stroke: "var(--bad)", "stroke-width": 1.5 * unit }));
    const node = mark(svg, event.at, event.no, unit, "var(--bad)", `${event.label}, ${clockText(event.t)}`);
    node.style.cursor = "pointer";
    node.addEventListener("click", () => seek(event.t - 2));
  }
  scaleBar(svg, box, unit);
}

function drawSpeedPath(svg, run, unit) {
  const { x, y, speed } = run.ego, top = Math.max(1, run.topSpeed), paths = RAMP.map(() => "");
  for (let i = 0; i + 1 < x.length;) {
    const bin = Math.min(RAMP.length - 1, Math.floor((speed[i] / top) * RAMP.length));
    let j = i + 1;
    while (j + 1 < x.length && Math.min(RAMP.length - 1, Math.floor((speed[j] / top) * RAMP.length)) === bin) j++;
    const points = [];
    for (let k = i; k <= j; k++) {
      const last = points[points.length - 1];
      if (k === j || !last || Math.hypot(last[0] - x[k], last[1] - y[k]) > 0.3) points.push([x[k], y[k]]);
    }
    paths[bin] += pathOf(points);
    i = j;
  }
  svg.append(element("path", { d: paths.join(""), fill: "none", stroke: "var(--panel)", "stroke-width": 5.5 * unit, "stroke-linejoin": "round", "stroke-linecap": "round" }));
  paths.forEach((d, bin) => d && svg.append(element("path", { d, fill: "none", stroke: RAMP[bin], "stroke-width": 3.6 * unit, "stroke-linecap": "round", "stroke-linejoin": "round" })));
  $("ramp").replaceChildren("0", element("i", { style: `background:linear-gradient(90deg,${RAMP.join(",")})` }), `${Math.round(top * 3.6)} km/h`);
}

function mark(svg, [x, y], text, unit, color, title) {
  const label = element("text", { x, y: y + 4 * unit, "text-anchor": "middle", style: `font-size:${11.5 * unit}px;font-weight:700;fill:var(--panel)` }, String(text));
  const node = element("g", {}, element("title", {}, title), element("circle", { cx: x, cy: y, r: 9.5 * unit, fill: color, stroke: "var(--panel)", "stroke-width": 2 * unit }), label);
  svg.append(node);
  return node;
}

// Numbers that would lie on each other are moved apart, around their place.
function spread(events, gap, others) {
  const taken = [...others];
  return events.map((event) => {
    let at = [event.x, event.y], moved = false;
    for (let turn = 0; turn < 40 && taken.some(([x, y]) => Math.hypot(x - at[0], y - at[1]) < gap * 1.25); turn++) {
      const radius = gap * 1.4 * (1 + Math.floor(turn / 8)), angle = turn * Math.PI / 4;
      at = [event.x + radius * Math.cos(angle), event.y + radius * Math.sin(angle)];
      moved = true;
    }
    taken.push(at);
    return { ...event, at, moved };
  });
}

function scaleBar(svg, box, unit) {
  const metres = [5, 10, 20, 50, 100, 200, 500].find((m) => m / unit > 60) ?? 1000;
  const x = box.x + box.w - 16 * unit - metres, y = box.y + box.h - 14 * unit;
  svg.append(element("path", { d: `M${x} ${y - 4 * unit}V${y}H${x + metres}V${y - 4 * unit}`, fill: "none", stroke: "var(--ink)", "stroke-width": 1.4 * unit }),
    element("text", { x: x + metres / 2, y: y - 6 * unit, "text-anchor": "middle", style: `font-size:${11 * unit}px;fill:var(--ink)` }, `${metres} m`));
}

function listInfractions(run, seek) {
  $("infractions").replaceChildren(...run.infractions.map((event) => {
    const where = event.placed ? `${clockText(event.t)}, x ${event.x.toFixed(1)} m, y ${event.y.toFixed(1)} m` : "";
    const button = element("button", { type: "button" }, element("span", { class: "no" }, String(event.no)),
      element("strong", {}, event.label), element("small", {}, [where, event.message].filter(Boolean).join(" · ")));
    if (event.placed) button.addEventListener("click", () => seek(event.t - 2)); else button.disabled = true;
    return element("li", {}, button);
  }));
  if (!run.infractions.length) $("infractions").append(element("li", { class: "note" }, "None. A clean run."));
}
