// The play page: one WebSocket, frames as binary messages, everything else as JSON.
import { Controls } from "./controls.js";
import { Latency, Rate, drawDrift } from "./numbers.js";
import { drawOn, unpack } from "./frames.js";

const $ = (id) => document.getElementById(id);
const rate = new Rate(), latency = new Latency();
let socket, hello, controls, status = { playing: false, settings: {} }, planning = false, drift = [], startIndex = 0;

const send = (type, fields = {}) => {
  if (socket?.readyState === WebSocket.OPEN) socket.send(JSON.stringify({ type, ...fields }));
};

function connect() {
  const address = new URL("ws", location.href.split(/[?#]/)[0]);
  address.protocol = location.protocol.replace("http", "ws");
  socket = new WebSocket(address);
  socket.binaryType = "arraybuffer";
  socket.onmessage = ({ data }) => (typeof data === "string" ? onText(JSON.parse(data)) : onFrame(data));
  socket.onclose = ({ code, reason }) => {
    $("connection").textContent = `Disconnected${reason ? `: ${reason}` : ""} (${code}). Reload the page to play again.`;
    $("connection").classList.add("lost");
    document.body.dataset.state = "closed";
    controls?.disable();
  };
}

const texts = { hello: onHello, status: onStatus, psnr: onPSNR, notice: ({ text }) => ($("notice").textContent = text), plan: onPlan };
const onText = (message) => texts[message.type]?.(message);
const binaries = { frame: onMoment, tree: onTree, futures: onFutures, subgoals: onSubgoals };
const onFrame = (data) => { const message = unpack(data); binaries[message.type]?.(message); };

function onHello(message) {
  hello = message;
  document.title = `Play: ${hello.title}`;
  $("title").textContent = hello.title;
  $("connection").textContent = "Connected.";
  controls = new Controls($("controls"), hello.controls, (action, seq) => { latency.sent(seq); send("input", { seq, action }); });
  $("starts").replaceChildren(...hello.starts.map((label, index) => {
    const button = document.createElement("button"), image = new Image();
    image.src = `start/${index}.png`;
    image.alt = `Start ${label}`;
    button.append(image);
    button.title = label;
    button.onclick = () => begin(index);
    return button;
  }));
  for (const id of ["model", "simulator"]) Object.assign($(id), { width: hello.frame[1], height: hello.frame[0] });
  for (const kind of ["mp4", "rlds"]) $(kind).href = `download/${hello.session}/${kind}`;
  $("planning").hidden = !hello.planner;
  $("goal_start").replaceChildren(new Option("choose …", ""), ...hello.starts.map((label, index) => new Option(label, index)));
  $("resync").hidden = !hello.simulator;
  makeSettings();
  listKeys();
  markStart(0);
  document.body.dataset.state = "open";
}

function begin(index) {
  startIndex = index;
  markStart(index);
  send("start", { index });
}
const markStart = (index) => [...$("starts").children].forEach((b, i) => b.setAttribute("aria-current", i === index));

async function onMoment(message) {
  const model = message.images.model, simulator = message.images.simulator;
  await Promise.all([drawOn($("model"), model), simulator && drawOn($("simulator"), simulator)]);
  send("ack", { tick: message.tick });
  document.body.dataset.tick = message.tick;
  document.body.dataset.depth = message.depth;
  $("simulator_view").hidden = !message.simulated;
  $("clock").textContent = `step ${message.depth}`;
  onPSNR(message);
  if (message.model_ms === undefined) return void numbers(message);
  requestAnimationFrame(() => { rate.tick(); latency.shown(message.seq); numbers(message); });
}

// PSNRs come in the order of steps; an earlier step than the last means that the player went back.
function onPSNR({ depth, psnr }) {
  if (depth <= (drift.at(-1)?.depth ?? -1)) drift = drift.filter((point) => point.depth < depth);
  if (psnr !== null) drift.push({ depth, psnr });
  if (drift.length > 600) drift.shift();
}

function numbers(message) {
  const text = (id, value) => ($(id).textContent = value);
  text("fps", rate.value ? rate.value.toFixed(1) : "–");
  for (const share of [50, 95]) { const ms = latency.percentile(share); text(`p${share}`, ms === null ? "–" : `${ms.toFixed(0)} ms`); }
  if (message.model_ms !== undefined) text("model_ms", `${message.model_ms.toFixed(1)} ms${message.batch > 1 ? ` for ${message.batch} worlds` : ""}`);
  text("late", message.late);
  $("psnr_row").hidden = $("drift").hidden = !drift.length;
  if (message.psnr !== null) text("psnr", message.psnr >= 99 ? "equal" : `${message.psnr.toFixed(1)} dB`);
  $("reward_row").hidden = message.reward === null && message.truth_reward === null;
  const show = (value) => (value === null ? "–" : value.toFixed(2));
  text("reward", message.truth_reward === null ? show(message.reward) : `${show(message.reward)} (true ${show(message.truth_reward)})`);
  text("model_note", message.terminal > 0.5 ? "ends here, it predicts" : "");
  text("simulator_note", message.over ? "episode over" : "");
  if (drift.length) drawDrift($("chart"), drift);
}

function onStatus(message) {
  status = message;
  $("play").textContent = status.playing ? "Pause" : "Play";
  $("record").setAttribute("aria-pressed", status.recording);
  $("record").textContent = status.recording ? "Recording" : "Record from here";
  for (const [name, value] of Object.entries(status.settings)) {
    const input = $(`set_${name}`);
    if (!input || input === document.activeElement) continue;
    if (input.type === "checkbox") input.checked = value; else input.value = String(value);
  }
  document.body.dataset.playing = status.playing;
}

const LABELS = { num_steps: "Denoising steps", order: "Order of the solver", temperature: "Temperature", fps: "Frames/s, at most",
  seed: "Seed", horizon: "Steps of 8 futures", simulator: "Simulator beside the model" };

function makeSettings() {
  const rows = [];
  const row = (name, input, read) => {
    const label = document.createElement("label"), span = document.createElement("span");
    label.className = "setting";
    span.textContent = LABELS[name] ?? name;
    input.id = `set_${name}`;
    input.onchange = () => input.checkValidity() && send("set", { name, value: read() });
    label.append(span, input);
    rows.push(label);
  };
  for (const [name, values] of Object.entries(hello.choices)) {
    const select = document.createElement("select");
    [...values].sort((a, b) => a - b).forEach((value) => select.add(new Option(value, String(value))));
    row(name, select, () => values.find((value) => String(value) === select.value));
  }
  const number = (name, min, max) => {
    const input = Object.assign(document.createElement("input"), { type: "number", min, max, step: 1, required: true });
    row(name, input, () => Number(input.value));
  };
  number("fps", ...hello.fps);
  number("seed", 0, 2 ** 31 - 1);
  number("horizon", 1, 64);
  if (hello.simulator) {
    const input = Object.assign(document.createElement("input"), { type: "checkbox" });
    row("simulator", input, () => input.checked);
  }
  $("settings").replaceChildren(...rows);
}

function onTree(message) {
  const depthOf = (b) => { const parent = message.branches.find((other) => other.id === b.parent); return parent ? 1 + depthOf(parent) : 0; };
  $("branches").replaceChildren(...message.branches.map((branch) => {
    const item = document.createElement("li"), button = document.createElement("button"), canvas = document.createElement("canvas");
    canvas.setAttribute("aria-hidden", true);
    drawOn(canvas, message.images[branch.id]);
    item.style.paddingLeft = `${Math.min(6, depthOf(branch))}rem`;
    button.append(canvas, `Branch ${branch.id}: steps ${branch.root} to ${branch.depth}`);
    button.setAttribute("aria-current", branch.id === message.now);
    button.disabled = !branch.playable;
    button.onclick = () => send("goto", { branch: branch.id });
    item.append(button);
    return item;
  }));
}

function onFutures(message) {
  const list = $("future_list"), label = document.createElement("p");
  label.className = "note";
  label.textContent = `Futures of ${message.horizon} steps from step ${message.from}; choose one to go on there.`;
  list.replaceChildren(label, ...Object.entries(message.images).map(([index, image]) => {
    const button = document.createElement("button"), canvas = document.createElement("canvas");
    drawOn(canvas, image);
    button.setAttribute("aria-label", `Future ${Number(index) + 1}`);
    button.append(canvas);
    button.onclick = () => { list.hidden = true; send("take", { index: Number(index) }); };
    return button;
  }));
  list.hidden = false;
}

function onPlan(message) {
  planning = message.on;
  $("plan").setAttribute("aria-pressed", planning);
  $("plan").textContent = planning ? "Planning" : "Plan to the goal";
}

function onSubgoals(message) {
  const list = $("subgoals"), images = Object.entries(message.images);
  list.hidden = false;
  while (list.children.length > images.length) list.lastChild.remove();
  images.forEach(([name, image], i) => {
    let place = list.children[i];
    if (!place) {
      place = document.createElement("div");
      place.append(document.createElement("canvas"), document.createElement("span"));
      list.append(place);
    }
    place.lastChild.textContent = name;
    drawOn(place.firstChild, image);
  });
}

const actions = {
  play: () => send("play", { on: !status.playing }), step: () => send("step"), back: () => send("back", { count: 1 }),
  branch: () => send("branch"), futures: () => send("futures"), restart: () => begin(startIndex), resync: () => send("resync"),
  record: () => send("record", { on: !status.recording }), plan: () => send("plan", { on: !planning }),
};
for (const [id, act] of Object.entries(actions)) $(id).onclick = act;
const shortcuts = { p: "play", ".": "step", Backspace: "back", b: "branch", f: "futures" };

$("goal_start").onchange = ({ target }) => target.value !== "" && send("goal_start", { index: Number(target.value) });
for (const id of ["model", "simulator"]) {
  $(id).onclick = (event) => {
    if (!hello?.planner) return;
    const box = event.target.getBoundingClientRect(), share = (at, from, size) => Math.min(1, Math.max(0, (at - from) / size));
    send("goal", { x: share(event.clientX, box.left, box.width), y: share(event.clientY, box.top, box.height) });
  };
}

$("upload").onchange = async ({ target }) => {
  const [file] = target.files;
  target.value = "";
  if (!file) return;
  if (file.size > hello.limits.bytes) return void ($("notice").textContent = `The file is larger than ${hello.limits.bytes >> 20} MiB.`);
  $("notice").textContent = "Uploading …";
  try {
    const answer = await fetch(`upload/${hello.session}`, { method: "POST", body: file });
    const found = await answer.json();
    $("notice").textContent = found.error ?? "This start is none that the model was trained on: expect it to leave it soon.";
    if (found.name) { markStart(-1); send("upload", { name: found.name }); }
  } catch { $("notice").textContent = "The upload failed."; }
};

function listKeys() {
  const rows = [["p", "play or pause"], [".", "one step"], ["Backspace", "one step back"], ["b", "branch"], ["f", "8 futures"],
    ...controls.describeKeys(), ["gamepad", "left stick and buttons"]];
  $("keys").replaceChildren(...rows.map(([key, what]) => {
    const row = document.createElement("div"), dt = document.createElement("dt"), dd = document.createElement("dd");
    dt.textContent = key === " " ? "Space" : key;
    dd.textContent = what;
    row.append(dt, dd);
    return row;
  }));
}

const typing = (target) => target.matches?.("input:not([type=checkbox]):not([type=range]), select, textarea");
addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || typing(event.target)) return;
  if (controls?.key(event, true)) return void event.preventDefault();
  const id = shortcuts[event.key];
  if (id && !(event.repeat && id !== "back" && id !== "step")) { event.preventDefault(); actions[id](); }
});
addEventListener("keyup", (event) => controls?.key(event, false));
for (const [target, name] of [[window, "blur"], [document, "visibilitychange"]]) target.addEventListener(name, () => controls?.release());
setInterval(() => controls?.gamepad(), 16);
connect();
