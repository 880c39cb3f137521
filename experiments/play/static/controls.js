// Controls made from the action space: buttons, a stick or sliders; keyboard, touch and gamepad act on the same state.

const named = (key) => ({ " ": "Space", ArrowLeft: "←", ArrowRight: "→", ArrowUp: "↑", ArrowDown: "↓" })[key] ?? key;

export class Controls {
  seq = 0;
  pads = "";

  constructor(place, described, send) {
    Object.assign(this, { place, described, send });
    this.held = []; // actions of buttons that are held, the newest last
    this.keys = new Map(); // axis -> keys that are held
    this.value = described.kind === "buttons" ? described.rest : [...described.rest];
    this.parts = described.kind === "buttons" ? this.makeButtons() : this.makeAxes();
    place.replaceChildren(...this.parts);
    this.last = JSON.stringify(this.value);
  }

  // -- elements

  makeButtons() {
    return this.described.buttons.map(({ name, keys }, action) => {
      const button = document.createElement("button"), hint = document.createElement("kbd");
      hint.textContent = keys.map(named).join(" ");
      hint.setAttribute("aria-hidden", true);
      button.append(name, hint);
      button.setAttribute("aria-pressed", false);
      button.onpointerdown = (event) => { button.setPointerCapture?.(event.pointerId); this.hold(action, true); };
      for (const end of ["onpointerup", "onpointercancel", "onlostpointercapture"]) button[end] = () => this.hold(action, false);
      button.onkeydown = (event) => { if (event.key === "Enter" && !event.repeat) this.hold(action, true); };
      button.onkeyup = (event) => { if (event.key === "Enter") this.hold(action, false); };
      return button;
    });
  }

  makeAxes() {
    const sliders = this.described.axes.map(({ name, low, high }, i) => {
      const label = document.createElement("label"), output = document.createElement("output"), input = document.createElement("input");
      label.className = "slider";
      Object.assign(input, { type: "range", min: low, max: high, step: (high - low) / 200, value: this.value[i] });
      input.oninput = () => { this.value[i] = Number(input.value); this.changed(); };
      input.ondblclick = () => { this.value[i] = this.described.rest[i]; this.changed(); };
      label.append(name, output, input);
      return label;
    });
    this.sliders = sliders.map((label) => label.querySelector("input"));
    return this.described.kind === "stick" ? [this.makeStick(), ...sliders] : sliders;
  }

  makeStick() {
    const stick = document.createElement("div"), knob = document.createElement("i");
    stick.className = "stick";
    stick.setAttribute("aria-hidden", true); // the sliders beside it do the same by keyboard and for screen readers
    stick.append(knob);
    this.knob = knob;
    const move = (event) => {
      const box = stick.getBoundingClientRect();
      [[event.clientX, box.left, box.width], [event.clientY, box.top, box.height]].forEach(([at, from, size], i) => {
        this.setShare(i, (2 * (at - from)) / size - 1);
      });
      this.changed();
    };
    stick.onpointerdown = (event) => { stick.setPointerCapture(event.pointerId); stick.onpointermove = move; move(event); };
    stick.onpointerup = stick.onpointercancel = () => { stick.onpointermove = null; this.rest(); };
    return stick;
  }

  // -- state

  setShare(i, share) { // −1 … 1 to the axis' bounds, 0 to its rest
    const { low, high } = this.described.axes[i], rest = this.described.rest[i], s = Math.max(-1, Math.min(1, share));
    this.value[i] = s < 0 ? rest + -s * (low - rest) : rest + s * (high - rest);
  }

  hold(action, on) {
    this.held = this.held.filter((other) => other !== action);
    if (on) this.held.push(action);
    this.value = this.together();
    this.changed();
  }

  together() { // the action that combines all that are held, or else the newest of them
    const combined = this.described.buttons.findIndex(({ of }) => of.length > 1 && of.length === this.held.length && of.every((action) => this.held.includes(action)));
    return combined >= 0 ? combined : this.held.at(-1) ?? this.described.rest;
  }

  rest() {
    this.value = [...this.described.rest];
    this.changed();
  }

  release() {
    this.held = [];
    this.keys.clear();
    if (this.described.kind === "buttons") this.hold(-1, false); else this.rest();
  }

  disable() { for (const part of this.place.querySelectorAll("button, input")) part.disabled = true; }

  changed() {
    const now = JSON.stringify(this.value);
    if (now === this.last) return;
    this.last = now;
    this.send(this.value, ++this.seq);
    if (this.described.kind === "buttons") {
      this.parts.forEach((button, i) => button.setAttribute("aria-pressed", this.held.length > 0 && this.value === i));
      return;
    }
    this.sliders.forEach((input, i) => { input.value = this.value[i]; input.parentNode.querySelector("output").textContent = this.value[i].toFixed(2); });
    if (this.knob) {
      const share = (i) => { const { low, high } = this.described.axes[i]; return (100 * (this.value[i] - low)) / (high - low); };
      Object.assign(this.knob.style, { left: `${share(0)}%`, top: `${share(1)}%` });
    }
  }

  // -- keyboard and gamepad

  key(event, down) {
    const key = event.key.length === 1 ? event.key.toLowerCase() : event.key;
    if (event.target.matches?.("button, a, summary") && (key === " " || key === "Enter")) return false;
    if (event.target.matches?.("input[type=range]") && key.startsWith("Arrow")) return false;
    if (this.described.kind === "buttons") {
      const action = this.described.buttons.findIndex(({ keys }) => keys.includes(key));
      if (action < 0) return false;
      if (!event.repeat) this.hold(action, down);
      return true;
    }
    const axis = this.described.axes.findIndex(({ keys }) => key in keys);
    if (axis < 0) return false;
    const held = (this.keys.get(axis) ?? []).filter((other) => other !== key);
    if (down) held.push(key);
    this.keys.set(axis, held);
    const newest = held.at(-1);
    this.value[axis] = newest === undefined ? this.described.rest[axis] : this.described.axes[axis].keys[newest];
    this.changed();
    return true;
  }

  describeKeys() {
    if (this.described.kind === "buttons") return this.described.buttons.map(({ name, keys }) => [keys.map(named).join(" or "), name]);
    return this.described.axes.map(({ name, keys }) => [Object.keys(keys).map(named).join(" "), name]);
  }

  gamepad() {
    const pad = [...(navigator.getGamepads?.() ?? [])].find((found) => found?.connected);
    if (!pad) return;
    const dead = (x) => (Math.abs(x ?? 0) < 0.15 ? 0 : x), x = dead(pad.axes[0]), y = dead(pad.axes[1]);
    const pressed = pad.buttons.map((button) => button.pressed), now = JSON.stringify([x, y, pressed]);
    if (now === this.pads) return; // so that it does not overrule keys while nobody touches it
    this.pads = now;
    if (this.described.kind !== "buttons") {
      [x, y, dead(pad.axes[2]), dead(pad.axes[3])].slice(0, this.value.length).forEach((share, i) => this.setShare(i, share));
      return this.changed();
    }
    const arrows = { ArrowLeft: x < -0.5 || pressed[14], ArrowRight: x > 0.5 || pressed[15], ArrowUp: y < -0.5 || pressed[12], ArrowDown: y > 0.5 || pressed[13] };
    this.held = this.described.buttons.map((_, i) => i).filter((i) => this.described.buttons[i].keys.some((key) => arrows[key]) || (i < 12 && pressed[i]));
    this.value = this.together();
    this.changed();
  }
}
