"use strict";
(() => {
  const root = document.documentElement;
  const $ = (s, e) => Array.from((e || document).querySelectorAll(s));
  const make = (tag, parent, text) => {
    const e = document.createElement(tag);
    if (text !== undefined) e.textContent = text;
    if (parent) parent.appendChild(e);
    return e;
  };
  const redraws = [];
  const redrawAll = () => redraws.forEach((f) => f());

  // Light and dark: the reader's system decides until the button does.
  const dark = matchMedia("(prefers-color-scheme: dark)");
  const isDark = () => (root.dataset.theme ? root.dataset.theme === "dark" : dark.matches);
  const theme = document.getElementById("theme");
  const named = () => { theme.textContent = isDark() ? "Light" : "Dark"; theme.setAttribute("aria-label", "Switch to " + (isDark() ? "light" : "dark")); };
  try { const kept = localStorage.getItem("visus-theme"); if (kept === "dark" || kept === "light") root.dataset.theme = kept; } catch (e) { /* a page from a file may not remember */ }
  theme.hidden = false;
  theme.onclick = () => {
    root.dataset.theme = isDark() ? "light" : "dark";
    try { localStorage.setItem("visus-theme", root.dataset.theme); } catch (e) { /* see above */ }
    named(); redrawAll();
  };
  dark.addEventListener("change", () => { named(); redrawAll(); });
  named();

  // Tables: a click on a head sorts down, up, and back; empty cells stay last.
  $("table").forEach((table) => {
    const body = table.tBodies[0], original = Array.from(body.rows);
    $("th", table).forEach((head, column) => {
      const button = make("button");
      button.type = "button";
      while (head.firstChild) button.appendChild(head.firstChild);
      head.appendChild(button);
      button.onclick = () => {
        const was = head.getAttribute("aria-sort"), numeric = head.classList.contains("n");
        const first = numeric ? "descending" : "ascending", second = numeric ? "ascending" : "descending";
        const now = !was ? first : was === first ? second : null;
        $("th", table).forEach((h) => h.removeAttribute("aria-sort"));
        if (!now) { body.append(...original); return; }
        head.setAttribute("aria-sort", now);
        const sign = now === "ascending" ? 1 : -1;
        const key = (row) => { const c = row.cells[column]; return c.dataset.v !== undefined ? +c.dataset.v : numeric || c.textContent === "–" ? null : c.textContent; };
        const keyed = original.map((row) => [key(row), row]);
        keyed.sort(([a], [b]) => a === null ? (b === null ? 0 : 1) : b === null ? -1
          : sign * (typeof a === "number" && typeof b === "number" ? a - b || 0 : String(a).localeCompare(String(b), undefined, { numeric: true })));
        body.append(...keyed.map((k) => k[1]));
      };
    });
  });

  // Contents: where the reader is. A link to what lies in a closed part opens it.
  const links = $("nav a"), parts = links.map((a) => document.getElementById(a.hash.slice(1)));
  const here = () => {
    let at = 0;
    parts.forEach((part, i) => { if (part && part.getBoundingClientRect().top < innerHeight * .3) at = i; });
    if (parts.length && scrollY + innerHeight > document.body.scrollHeight - 4) at = parts.length - 1;
    links.forEach((a, i) => { if (i === at) a.setAttribute("aria-current", "true"); else a.removeAttribute("aria-current"); });
  };
  addEventListener("scroll", here, { passive: true });
  addEventListener("resize", here);
  here();
  const reveal = () => { const at = document.getElementById(location.hash.slice(1)); if (at && at.tagName === "DETAILS") at.open = true; };
  addEventListener("hashchange", reveal);
  addEventListener("click", (e) => { const a = e.target.closest("a[href^='#']"); if (a && a.hash === location.hash) reveal(); });
  reveal();

  // On paper everything is open.
  addEventListener("beforeprint", () => { $("details").forEach((d) => { d.open = true; }); redrawAll(); });
  addEventListener("afterprint", redrawAll);

  const source = document.getElementById("maps");
  if (!source) return;
  const data = JSON.parse(source.textContent);
  const NONE = 65535, TAU = 2 * Math.PI, COLOURS = 10;
  const unpack = (text) => { const raw = atob(text), bytes = new Uint8Array(raw.length); for (let i = 0; i < raw.length; i++) bytes[i] = raw.charCodeAt(i); return new Uint16Array(bytes.buffer); };
  const poly = (n, turn) => Array.from({ length: n }, (_, i) => [1.2 * Math.sin(turn + i * TAU / n), -1.2 * Math.cos(turn + i * TAU / n)]);
  const cross = (t) => [[-t, -1.15], [t, -1.15], [t, -t], [1.15, -t], [1.15, t], [t, t], [t, 1.15], [-t, 1.15], [-t, t], [-1.15, t], [-1.15, -t], [-t, -t]];
  const turned = (p) => p.map(([x, y]) => [(x - y) * .7071, (x + y) * .7071]);
  // The same ten shapes, in the same order, as MARKERS in palette.py.
  const SHAPES = [null, turned(poly(4, 0)).map(([x, y]) => [x * 1.02, y * 1.02]), poly(3, 0), poly(4, 0), poly(3, Math.PI), cross(.42), turned(cross(.42)), poly(3, -Math.PI / 2), poly(3, Math.PI / 2), poly(5, 0)];
  const shapeOf = (c) => SHAPES[Math.floor(c / COLOURS) % SHAPES.length];
  const trace = (g, shape, x, y, r) => {
    if (!shape) { g.moveTo(x + r, y); g.arc(x, y, r, 0, TAU); return; }
    shape.forEach(([a, b], i) => (i ? g.lineTo(x + a * r, y + b * r) : g.moveTo(x + a * r, y + b * r)));
    g.closePath();
  };
  const peersOf = new Map();

  $(".maps").forEach((box) => {
    const group = data.groups[+box.dataset.group], classes = group.classes;
    const state = { hidden: new Set(), only: null };
    const maps = group.maps.map((m, i) => mapOf(m, $("figure.map", box)[i], classes, state));
    legend($(".legend", box)[0], classes, state, maps);
  });
  redrawAll();

  function legend(box, classes, state, maps) {
    const counts = new Map();
    maps.forEach((m, i) => { if (!i) m.labels.forEach((c) => counts.set(c, (counts.get(c) || 0) + 1)); });
    const draw = () => maps.forEach((m) => m.draw());
    const buttons = [];
    const show = () => { buttons.forEach(([b, c]) => b.setAttribute("aria-pressed", String(!state.hidden.has(c)))); all.textContent = state.hidden.size ? "Show all" : "Hide all"; draw(); };
    if (classes.length > 20) box.classList.add("many");
    const all = make("button");
    all.type = "button"; all.className = "all";
    all.onclick = () => { state.hidden = state.hidden.size ? new Set() : new Set(classes.keys()); state.only = null; show(); };
    classes.forEach((name, c) => {
      if (!maps.some((m) => m.labels.includes(c))) return;
      const b = make("button", box);
      b.type = "button"; b.title = name;
      const ns = "http" + "://www.w3.org/2000/svg", svg = document.createElementNS(ns, "svg"), shape = shapeOf(c);
      const mark = document.createElementNS(ns, shape ? "polygon" : "circle");
      svg.setAttribute("viewBox", "-1.4 -1.4 2.8 2.8"); svg.setAttribute("aria-hidden", "true");
      if (shape) mark.setAttribute("points", shape.map((p) => p.join()).join(" ")); else mark.setAttribute("r", "1");
      mark.style.fill = "var(--c" + (c % COLOURS) + ")";
      svg.appendChild(mark); b.appendChild(svg);
      make("bdi", b, name); make("small", b, String(counts.get(c) || 0));
      buttons.push([b, c]);
      const single = () => { state.only = state.hidden.has(c) ? null : c; draw(); }, release = () => { state.only = null; draw(); };
      b.onmouseenter = b.onfocus = single; b.onmouseleave = b.onblur = release;
      b.onclick = () => { if (!state.hidden.delete(c)) state.hidden.add(c); state.only = null; show(); };
    });
    box.appendChild(all);
    show();
  }

  function mapOf(m, figure, classes, state) {
    const stage = $(".stage", figure)[0], canvas = $("canvas", stage)[0], hint = $(".hint", stage)[0], g = canvas.getContext("2d");
    const points = unpack(m.points), labels = unpack(data.pool[m.labels]), ids = data.pool[m.ids], sprite = m.sprite === null ? null : data.sprites[m.sprite];
    const view = { k: 1, x: 0, y: 0 };
    let size = 0, over = -1, focused = -1, active = false, timer = 0;
    const tip = make("div", stage); tip.className = "tip"; tip.hidden = true; tip.setAttribute("aria-live", "polite");
    const thumb = make("i", tip), words = make("span", tip), title = make("b", words), file = make("small", words);
    if (!sprite || !sprite.src) thumb.remove();
    const inset = () => size * .045;
    const px = (i) => (inset() + points[2 * i] / NONE * (size - 2 * inset())) * view.k + view.x;
    const py = (i) => (inset() + points[2 * i + 1] / NONE * (size - 2 * inset())) * view.k + view.y;
    const missing = (i) => points[2 * i] === NONE && points[2 * i + 1] === NONE;
    const unseen = (i) => missing(i) || state.hidden.has(labels[i]);
    const peers = peersOf.get(m.link) || []; peersOf.set(m.link, peers);
    const self = { labels, draw, mark: (i) => { focused = i; draw(); } };
    peers.push(self);

    // Points of a class are one path: a map of ten thousand redraws in a few milliseconds.
    const byClass = new Map();
    labels.forEach((c, i) => { if (!missing(i)) { if (!byClass.has(c)) byClass.set(c, []); byClass.get(c).push(i); } });
    function draw() {
      const wide = canvas.clientWidth, ratio = Math.min(devicePixelRatio || 1, 3);
      if (!wide) return;
      if (wide !== size) { const f = size ? wide / size : 1; view.x *= f; view.y *= f; size = wide; }
      if (canvas.width !== Math.round(size * ratio)) { canvas.width = canvas.height = Math.round(size * ratio); }
      const css = getComputedStyle(root), colour = (n) => css.getPropertyValue(n).trim();
      const r = Math.max(1.6, Math.min(4.2, size / 18 / Math.pow(m.count + 1, .3))) * Math.pow(view.k, .35);
      g.setTransform(ratio, 0, 0, ratio, 0, 0);
      g.clearRect(0, 0, size, size);
      const order = Array.from(byClass.keys()).filter((c) => !state.hidden.has(c)).sort((a, b) => (a === state.only) - (b === state.only));
      order.forEach((c) => {
        const faint = state.only !== null && c !== state.only;
        g.globalAlpha = faint ? .13 : .85;
        g.fillStyle = faint || c === NONE ? colour("--muted") : colour("--c" + (c % COLOURS));
        g.beginPath();
        byClass.get(c).forEach((i) => { const x = px(i), y = py(i); if (x > -9 && y > -9 && x < size + 9 && y < size + 9) trace(g, c === NONE ? null : shapeOf(c), x, y, r); });
        g.fill();
      });
      g.globalAlpha = 1;
      if (focused >= 0 && !missing(focused)) {
        g.beginPath(); g.arc(px(focused), py(focused), r + 5, 0, TAU); g.lineWidth = 5; g.strokeStyle = colour("--raised"); g.stroke();
        g.lineWidth = 2.2; g.strokeStyle = colour("--ink"); g.stroke();
      }
    }
    redraws.push(draw);
    new ResizeObserver(draw).observe(canvas);

    function choose(i) {
      if (i === over) return;
      over = i;
      peers.forEach((p) => p.mark(i));
      tip.hidden = i < 0;
      if (i < 0) return;
      title.textContent = labels[i] === NONE ? "no class" : classes[labels[i]];
      title.style.boxShadow = labels[i] === NONE ? "" : "inset 0 -3px var(--c" + (labels[i] % COLOURS) + ")";
      file.textContent = ids.length ? ids[i] : "";
      if (sprite && sprite.src) {
        thumb.style.backgroundImage = "url(" + sprite.src + ")";
        thumb.style.backgroundSize = sprite.columns * 96 + "px " + sprite.rows * 96 + "px";
        thumb.style.backgroundPosition = -(i % sprite.columns) * 96 + "px " + -Math.floor(i / sprite.columns) * 96 + "px";
        thumb.style.imageRendering = sprite.cell < 48 ? "pixelated" : "auto";
      }
      const x = px(i), y = py(i), w = tip.offsetWidth, h = tip.offsetHeight;
      tip.style.left = Math.max(4, Math.min(size - w - 4, x + 16 + w > size ? x - w - 16 : x + 16)) + "px";
      tip.style.top = Math.max(4, y + 16 + h > size ? y - h - 16 : y + 16) + "px";
    }
    function nearest(x, y, reach) {
      let best = -1, d = reach * reach;
      for (let i = 0; i < m.count; i++) {
        if (unseen(i)) continue;
        const e = (px(i) - x) ** 2 + (py(i) - y) ** 2;
        if (e < d) { d = e; best = i; }
      }
      return best;
    }
    function zoom(f, x, y) {
      const k = Math.max(1, Math.min(60, view.k * f));
      view.x = x - (x - view.x) * k / view.k; view.y = y - (y - view.y) * k / view.k; view.k = k;
      hold();
    }
    function hold() {
      const least = size * (1 - view.k);
      view.x = Math.max(least, Math.min(0, view.x)); view.y = Math.max(least, Math.min(0, view.y));
      // A finger moves the page until there is something to move in the map.
      canvas.style.touchAction = view.k > 1 ? "none" : "pan-y";
      choose(-1); draw();
    }
    const spot = (e) => { const b = canvas.getBoundingClientRect(); return [e.clientX - b.left, e.clientY - b.top]; };
    const fingers = new Map();
    let moved = 0;
    canvas.addEventListener("pointerdown", (e) => { fingers.set(e.pointerId, spot(e)); moved = 0; active = true; hint.hidden = true; });
    canvas.addEventListener("pointermove", (e) => {
      const now = spot(e), was = fingers.get(e.pointerId);
      if (!was) { if (e.pointerType !== "touch") choose(nearest(now[0], now[1], 14)); return; }
      const dx = now[0] - was[0], dy = now[1] - was[1];
      moved += Math.abs(dx) + Math.abs(dy);
      if (fingers.size === 2) {
        const other = Array.from(fingers).find(([id]) => id !== e.pointerId)[1];
        const before = Math.hypot(was[0] - other[0], was[1] - other[1]), after = Math.hypot(now[0] - other[0], now[1] - other[1]);
        fingers.set(e.pointerId, now);
        zoom(after / Math.max(before, 1), (now[0] + other[0]) / 2, (now[1] + other[1]) / 2);
      } else if (moved > 5 && view.k > 1) {
        if (!canvas.hasPointerCapture(e.pointerId)) canvas.setPointerCapture(e.pointerId);
        fingers.set(e.pointerId, now);
        view.x += dx; view.y += dy; hold();
      }
    });
    const lift = (e) => { fingers.delete(e.pointerId); };
    canvas.addEventListener("pointerup", (e) => { if (moved < 6 && fingers.size === 1) { const [x, y] = spot(e); choose(nearest(x, y, e.pointerType === "touch" ? 28 : 14)); } lift(e); });
    canvas.addEventListener("pointercancel", lift);
    canvas.addEventListener("pointerleave", (e) => { if (e.pointerType !== "touch") { lift(e); choose(-1); } });
    canvas.addEventListener("blur", () => { active = false; choose(-1); });
    canvas.addEventListener("dblclick", (e) => { const [x, y] = spot(e); zoom(2, x, y); });
    canvas.addEventListener("wheel", (e) => {
      // A page must scroll past its maps: the wheel zooms once the map was clicked, or with Ctrl (a trackpad's pinch).
      if (!active && !e.ctrlKey && !e.metaKey) { hint.hidden = false; clearTimeout(timer); timer = setTimeout(() => { hint.hidden = true; }, 1200); return; }
      e.preventDefault();
      const [x, y] = spot(e);
      zoom(Math.exp(-e.deltaY * (e.deltaMode ? .05 : .0022)), x, y);
    }, { passive: false });
    const reset = () => { view.k = 1; view.x = view.y = 0; hold(); };
    const step = (by) => { for (let t = 1, i = over; t <= m.count; t++) { i = (i + by + m.count) % m.count; if (i >= 0 && !unseen(i)) { choose(i); return; } } };
    const keys = {
      "+": () => zoom(1.4, size / 2, size / 2), "=": () => zoom(1.4, size / 2, size / 2), "-": () => zoom(1 / 1.4, size / 2, size / 2), "0": reset,
      ArrowLeft: () => { view.x += 40; hold(); }, ArrowRight: () => { view.x -= 40; hold(); }, ArrowUp: () => { view.y += 40; hold(); }, ArrowDown: () => { view.y -= 40; hold(); },
      n: () => step(1), p: () => { if (over < 0) over = 0; step(-1); }, Escape: () => { active = false; reset(); },
    };
    canvas.addEventListener("keydown", (e) => { if (keys[e.key] && !e.ctrlKey && !e.metaKey && !e.altKey) { e.preventDefault(); keys[e.key](); } });
    $("[data-zoom]", stage).forEach((b) => { b.onclick = () => (b.dataset.zoom === "reset" ? reset() : zoom(b.dataset.zoom === "in" ? 1.6 : 1 / 1.6, size / 2, size / 2)); });
    return self;
  }
})();
