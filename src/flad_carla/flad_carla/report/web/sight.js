"use strict";
// What the encoder predicts at the moment of a picture: boxes in the picture, from above, the light.

const BOX_HEIGHT = 1.6;  // the encoder predicts no height: its boxes stand this high, in metres
const MISSED = 0, FOUND = 1, UNSEEN = 2;
const sight = { row: -1 };

function showSight(run) {
  const shown = Boolean(run.seen) && run.pictures.length > 0;
  $("sight").hidden = !shown;
  $("stage").classList.toggle("seeing", shown);
  $("keys-pictures").hidden = !run.pictures.length;
  if (!shown) return;
  const { seen } = run;
  $("sight-key").replaceChildren(...[["seen", "predicted, with its score"], ["truth", "true: found"], ["missed", "true: missed"], ["truth", "true: no LiDAR point on it", "dashed"],
    ["seen", "predicted way", "round"], ["plan", "plan that is driven", "round"], ...(seen.lidar ? [["lidar", "LiDAR"]] : [])]
    .map(([color, word, shape = "frame"]) => element("li", {}, element("i", { class: shape, style: `--c:var(--${color})` }), word)));
  const f = seen.figures, percent = (part, whole) => `${Math.round((100 * part) / whole)} %`;
  const rows = [];
  if (f.vehicles) rows.push(["Vehicles", `${percent(f.found, f.vehicles)} of ${f.vehicles} found`]);
  if (f.extra !== null) rows.push(["False boxes", `${f.extra.toFixed(2)} per moment`]);
  if (f.red[1]) rows.push(["Red light", `${percent(...f.red)} of ${f.red[1]} told right`]);
  if (f.free[1]) rows.push(["No red", `${percent(...f.free)} of ${f.free[1]} told right`]);
  if (f.latency_ms) rows.push(["Latency", `${f.latency_ms[0]} ms, p95 ${f.latency_ms[1]} ms`]);
  $("sight-run").replaceChildren(element("dt", { class: "head" }, `This run, ${f.moments} moments`), ...definitions(rows));
  const failed = seen.missing.length ? ` Without a picture at times: ${seen.missing.join(", ")}.` : "";
  const role = (run.texts.driver ?? []).length ? "Its tokens are what the driving model sees; these predictions steer nothing." : "It does not steer.";
  $("sight-model").textContent = `Encoder: ${seen.encoder}. ${role}${failed}`;
}

function definitions(rows) {
  return rows.flatMap(([name, value, color]) => [element("dt", {}, name), element("dd", color ? { style: `color:var(--${color})` } : {}, value)]);
}

function drawSight(run, t) {
  const row = Math.max(0, indexAt(run.thumbs.times, t)), time = run.thumbs.times[row], at = run.scenes.at[row];
  const scene = { row, time, at, boxes: run.scenes.boxes[row], truth: run.scenes.truth[row], way: run.scenes.waypoints[row], cells: run.scenes.sweeps[row] };
  showPicture(run, scene, "eye", run.pictures[row], run.seen.views[0]);
  const inset = run.insets[row]?.();
  $("eye-far").hidden = !inset;
  if (inset) showPicture(run, scene, "eye-far", () => inset, run.seen.views[1]);
  $("eye-note").textContent = `${run.thumbs.name} · ${clockText(time)}${at < 0 ? " · no prediction for this picture" : ""}`;
  drawPlane(run, scene);
  drawVerdict(run, scene);
}

// --- the picture ----------------------------------------------------------------------------

function showPicture(run, scene, id, address, view) {
  const image = $(`${id}-picture`), key = `${run.id}:${scene.row}`;
  if (image.dataset.key !== key) { image.dataset.key = key; image.src = address(); }
  const { pen, width, height } = penOf($(`${id}-boxes`));
  if (!view) return;
  const lens = lensOf(view, width, height), small = id !== "eye";
  pen.lineJoin = "round";
  for (const body of scene.truth) {
    const kind = run.kinds[body.actor], color = body.state === MISSED ? "missed" : "truth";
    const box = { ...body, length: kind.length, width: kind.width, low: body.z - kind.height / 2, high: body.z + kind.height / 2 };
    drawCuboid(pen, lens, box, { color: EYE[color], dash: body.state === UNSEEN ? [3, 3] : [], line: small ? 1 : 1.5 });
  }
  for (const predicted of scene.boxes.slice().reverse()) {
    const corner = drawCuboid(pen, lens, { ...predicted, low: 0, high: BOX_HEIGHT }, { color: EYE.seen, dash: [], line: small ? 1.2 : 2, fill: true });
    if (corner && !small && corner.width > 14) label(pen, corner.x, corner.y - 3, predicted.score.toFixed(2), EYE.seen);
  }
  if (!small) drawWayInPicture(pen, lens, scene.way);
}

// Colours in a picture, which is neither light nor dark.
const EYE = { seen: "#ffb020", truth: "#35e0b4", missed: "#ff5d73", halo: "rgb(0 0 0 / 55%)" };

function lensOf(view, width, height) {
  const rad = Math.PI / 180, yaw = view.yaw * rad, pitch = view.pitch * rad, focal = width / 2 / Math.tan((view.fov * rad) / 2);
  const [cy, sy, cp, sp] = [Math.cos(yaw), Math.sin(yaw), Math.cos(pitch), Math.sin(pitch)];
  return {
    // Vehicle (x forward, y left, z up) to camera: [forward, right, up], metres.
    see: (x, y, z) => {
      const dx = x - view.x, dy = -y - view.y, dz = z - view.z;
      const forward = cy * dx + sy * dy, right = -sy * dx + cy * dy;
      return [cp * forward + sp * dz, right, -sp * forward + cp * dz];
    },
    place: ([forward, right, up]) => [width / 2 + (focal * right) / forward, height / 2 - (focal * up) / forward],
    width, height,
  };
}

const NEAR = 0.3;
const EDGES = [[0, 1], [1, 2], [2, 3], [3, 0], [4, 5], [5, 6], [6, 7], [7, 4], [0, 4], [1, 5], [2, 6], [3, 7]];

// Draws the edges that are in front of the camera; returns the upper left of what is seen, or null.
function drawCuboid(pen, lens, box, { color, dash, line, fill = false }) {
  const flat = cornersOf(box);
  const corners = [...flat.map(([x, y]) => lens.see(x, y, box.low)), ...flat.map(([x, y]) => lens.see(x, y, box.high))];
  if (corners.every(([forward]) => forward < NEAR)) return null;
  const path = new Path2D(), seen = [];
  for (const [i, j] of EDGES) {
    const ends = clipNear(corners[i], corners[j]);
    if (!ends) continue;
    const [a, b] = ends.map(lens.place);
    path.moveTo(...a); path.lineTo(...b);
    seen.push(a, b);
  }
  const xs = seen.map((p) => p[0]), ys = seen.map((p) => p[1]);
  const [x0, x1, y0, y1] = [Math.min(...xs), Math.max(...xs), Math.min(...ys), Math.max(...ys)];
  if (x1 < 0 || x0 > lens.width || y1 < 0 || y0 > lens.height) return null;
  if (fill && corners.every(([forward]) => forward >= NEAR)) {
    pen.fillStyle = color; pen.globalAlpha = 0.14;
    for (const face of [[0, 1, 5, 4], [2, 3, 7, 6]]) pen.fill(new Path2D(pathOf(face.map((i) => lens.place(corners[i])), true)));
    pen.globalAlpha = 1;
  }
  pen.setLineDash(dash);
  pen.strokeStyle = EYE.halo; pen.lineWidth = line + 1.6; pen.stroke(path);
  pen.strokeStyle = color; pen.lineWidth = line; pen.stroke(path);
  pen.setLineDash([]);
  return { x: Math.max(0, x0), y: Math.max(12, y0), width: x1 - x0 };
}

function clipNear(a, b) {
  if (a[0] < NEAR && b[0] < NEAR) return null;
  const cut = (p, q) => { const u = (NEAR - p[0]) / (q[0] - p[0]); return p.map((v, k) => mix(v, q[k], u)); };
  return [a[0] < NEAR ? cut(a, b) : a, b[0] < NEAR ? cut(b, a) : b];
}

function cornersOf({ x, y, yaw, length, width }) {
  const c = Math.cos(yaw), s = Math.sin(yaw);
  return [[1, 1], [1, -1], [-1, -1], [-1, 1]].map(([u, v]) => [x + (c * u * length - s * v * width) / 2, y + (s * u * length + c * v * width) / 2]);
}

function drawWayInPicture(pen, lens, way) {
  const places = [{ x: 2.6, y: 0 }, ...way].map((p) => lens.see(p.x, p.y, 0)).filter((p) => p[0] > NEAR).map(lens.place);
  if (places.length < 2) return;
  const path = new Path2D(pathOf(places));
  pen.strokeStyle = EYE.halo; pen.lineWidth = 4.5; pen.stroke(path);
  pen.strokeStyle = EYE.seen; pen.lineWidth = 2.5; pen.stroke(path);
  for (const [x, y] of places.slice(1)) disc(pen, x, y, 3.5, EYE.seen, EYE.halo, 1);
}

function label(pen, x, y, text, color) {
  pen.font = "600 11px system-ui, sans-serif";
  const room = pen.measureText(text).width + 6;
  pen.fillStyle = color;
  pen.beginPath(); pen.roundRect(x - 1, y - 11, room, 14, 3); pen.fill();
  pen.fillStyle = "#16202b"; pen.textAlign = "left";
  pen.fillText(text, x + 2, y);
}

// --- from above -------------------------------------------------------------------------------

function drawPlane(run, scene) {
  const { pen, width, height } = penOf($("plane")), [x0, x1, y0, y1] = run.seen.area;
  const scale = Math.min(width / (y1 - y0), height / (x1 - x0)), px = 1 / scale;
  pen.fillStyle = css("ground");
  pen.fillRect(0, 0, width, height);
  // Forward is up, left is left: canvas x = -y, canvas y = -x of the vehicle.
  const to = (x, y) => [-y, -x];
  pen.translate(width / 2 + ((y0 + y1) / 2) * scale, height / 2 + ((x0 + x1) / 2) * scale);
  pen.scale(scale, scale);
  const ego = egoAt(run, scene.time);
  pen.save();
  pen.rotate((-90 - ego.yaw) * Math.PI / 180);
  pen.translate(-ego.x, -ego.y);
  for (const name of ["pavement", "road"]) { pen.fillStyle = css(name); pen.fill(player.roads[name]); }
  pen.strokeStyle = css("lane"); pen.lineWidth = 0.15; pen.stroke(player.roads.edges);
  const p = indexAt(run.planTime, scene.time), plan = [];
  if (p >= 0 && scene.time - run.planTime[p] < 1.5) for (let i = run.planStart[p]; i < run.planStart[p + 1]; i++) plan.push([run.plans.x[i], run.plans.y[i]]);
  pen.restore();
  drawRings(pen, run, px);
  pen.fillStyle = css("lidar");
  const { cell, columns } = run.seen, dot = Math.max(cell, 1.6 * px);
  for (const { cell: number } of scene.cells) {
    const x = x0 + (Math.floor(number / columns) + 0.5) * cell, y = y0 + ((number % columns) + 0.5) * cell;
    pen.fillRect(-y - dot / 2, -x - dot / 2, dot, dot);
  }
  for (const body of scene.truth) {
    const kind = run.kinds[body.actor];
    outline(pen, { ...body, length: kind.length, width: kind.width }, css(body.state === MISSED ? "missed" : "truth"), { fill: 0.22, line: 1.6 * px, dash: body.state === UNSEEN ? [3 * px, 3 * px] : [] });
  }
  drawBody(pen, 0, 0, -90, { color: "ego", length: run.egoSize[0], width: run.egoSize[1] }, px);
  pen.save();  // the plan is in the world
  pen.rotate((-90 - ego.yaw) * Math.PI / 180);
  pen.translate(-ego.x, -ego.y);
  polyline(pen, [[ego.x, ego.y], ...plan], css("plan"), 2.2 * px, px);
  pen.restore();
  polyline(pen, [[0, 0], ...scene.way.map(({ x, y }) => to(x, y))], css("seen"), 2.2 * px, px);
  for (const box of scene.boxes) {
    outline(pen, box, css("seen"), { fill: 0.1, line: 2 * px, dash: [] });
    const nose = [box.x + (Math.cos(box.yaw) * box.length) / 2, box.y + (Math.sin(box.yaw) * box.length) / 2];
    pen.beginPath(); pen.moveTo(...to(...nose));
    pen.lineTo(...to(nose[0] + Math.cos(box.yaw) * (0.8 + box.speed), nose[1] + Math.sin(box.yaw) * (0.8 + box.speed)));
    pen.strokeStyle = css("seen"); pen.lineWidth = 1.6 * px; pen.stroke();
    const above = Math.max(...cornersOf(box).map(([x]) => x)) + 0.5;
    words(pen, -box.y, -Math.min(above, x1 - 13 * px), box.score.toFixed(2), px, css("ink"));
  }
  $("plane-note").textContent = `${y1 - y0} m × ${x1 - x0} m`;
}

function drawRings(pen, run, px) {
  pen.strokeStyle = css("soft"); pen.lineWidth = px; pen.globalAlpha = 0.35;
  for (const metres of [10, 20]) { pen.beginPath(); pen.arc(0, 0, metres, 0, 2 * Math.PI); pen.stroke(); }
  pen.globalAlpha = 1;
  for (const metres of [10, 20]) words(pen, -0.707 * metres, -0.707 * metres - 0.4, `${metres} m`, px, css("soft"));
}

function outline(pen, box, color, { fill, line, dash }) {
  const path = new Path2D(pathOf(cornersOf(box).map(([x, y]) => [-y, -x]), true));
  pen.fillStyle = color; pen.globalAlpha = fill; pen.fill(path); pen.globalAlpha = 1;
  pen.setLineDash(dash); pen.strokeStyle = color; pen.lineWidth = line; pen.lineJoin = "round"; pen.stroke(path); pen.setLineDash([]);
}

function polyline(pen, points, color, line, px) {
  if (points.length < 2) return;
  pen.strokeStyle = color; pen.lineWidth = line; pen.lineJoin = pen.lineCap = "round";
  pen.stroke(new Path2D(pathOf(points)));
  for (const [x, y] of points.slice(1)) disc(pen, x, y, 3.2 * px, css("panel"), color, 2 * px);
}

function words(pen, x, y, text, px, color) {
  pen.save(); pen.translate(x, y); pen.scale(px, px);
  pen.font = "600 10.5px system-ui, sans-serif"; pen.textAlign = "center";
  pen.lineWidth = 3; pen.lineJoin = "round"; pen.strokeStyle = css("panel"); pen.strokeText(text, 0, 0);
  pen.fillStyle = color; pen.fillText(text, 0, 0);
  pen.restore();
}

// --- in words ---------------------------------------------------------------------------------

function drawVerdict(run, { at, time }) {
  const { moments } = run, known = at >= 0 && !Number.isNaN(moments.red[at]), red = moments.red[at], truth = moments.red_true[at];
  const light = egoAt(run, time).light, ahead = Number.isNaN(light) ? "no light ahead" : `${LIGHT_WORDS[light]} light ahead`;
  const judged = known && !Number.isNaN(truth), right = judged && (red >= 0.5) === (truth === 1);
  const lamp = (color, word, small) => element("div", { class: "lamprow" }, element("i", { class: "lamp big", style: `background:${color}` }), element("span", {}, element("b", {}, word), element("small", {}, small)));
  $("light-badge").className = `lightbadge ${judged ? (right ? "right" : "wrong") : ""}`;
  $("light-badge").replaceChildren(
    known ? lamp(`color-mix(in srgb, var(--red) ${Math.round(100 * red)}%, var(--green))`, red >= 0.5 ? "stop for red" : "no red to stop for", `predicted, P(red) = ${red.toFixed(2)}`)
      : lamp("var(--off)", "no prediction", "for this picture"),
    element("div", { class: "probability" }, element("u", { style: `width:${known ? 100 * red : 0}%` })),
    judged ? lamp(truth === 1 ? "var(--red)" : Number.isNaN(light) ? "var(--off)" : `var(--${LIGHTS[light]})`, truth === 1 ? "must stop" : "need not stop", `true, ${ahead}`)
      : lamp("var(--off)", ahead, "true"),
    element("em", {}, judged ? (right ? "✓ agree" : "✗ differ") : ""));
  if (!known) { $("sight-now").replaceChildren(...definitions([["Vehicles", "no prediction for this picture"]])); return; }
  const now = [["Vehicles", `${moments.found[at]} found, ${moments.missed[at]} missed`, moments.missed[at] ? "missed" : ""], ["False boxes", String(moments.extra[at])],
    ["Stop sign", `P = ${moments.stop[at].toFixed(2)}`]];
  if (!Number.isNaN(moments.latency[at])) now.push(["Latency", `${Math.round(1000 * moments.latency[at])} ms`]);
  $("sight-now").replaceChildren(element("dt", { class: "head" }, `At ${clockText(moments.t[at])}`), ...definitions(now));
}
