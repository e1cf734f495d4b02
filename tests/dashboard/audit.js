// What a page must be for people who use a keyboard, a screen reader or poor light; the faults as sentences.
() => {
  const faults = [];
  const seen = (e) => e.getClientRects().length > 0 && getComputedStyle(e).visibility !== "hidden";
  const all = (css) => [...document.querySelectorAll(css)].filter(seen);
  const shown = (e) => e.outerHTML.slice(0, 120);
  const name = (e) =>
    e.getAttribute("aria-label")?.trim() ||
    (e.getAttribute("aria-labelledby") ?? "").split(" ").map((id) => document.getElementById(id)?.textContent ?? "").join("").trim() ||
    [...(e.labels ?? [])].map((l) => l.textContent).join("").trim() ||
    e.textContent.trim() ||
    [...e.querySelectorAll("img[alt]")].map((i) => i.alt).join("").trim();
  if (!document.documentElement.lang) faults.push("the document has no language");
  if (!document.title.trim()) faults.push("the document has no title");
  const mains = all("main:not([role=none])").length;
  if (mains !== 1) faults.push(`${mains} main landmarks`);
  if (all("h1").length !== 1) faults.push(`${all("h1").length} h1`);
  let level = 0;
  for (const e of all("h1,h2,h3,h4,h5,h6")) {
    const now = Number(e.localName[1]);
    if (now > level + 1) faults.push(`a heading is left out before ${shown(e)}`);
    level = now;
  }
  for (const e of all("a[href],button,input:not([type=hidden]),select,textarea,[role=button],[role=combobox]"))
    if (!name(e)) faults.push(`no name: ${shown(e)}`);
  for (const e of all("nav,section[role=region]")) if (!name(e)) faults.push(`no name: ${shown(e)}`);
  for (const e of all("svg[role=img]")) if (!e.getAttribute("aria-label")) faults.push(`no words: ${shown(e)}`);
  for (const e of document.querySelectorAll("img")) if (!e.hasAttribute("alt")) faults.push(`no alt: ${shown(e)}`);
  for (const e of document.querySelectorAll("[tabindex]")) if (e.tabIndex > 0) faults.push(`tab order: ${shown(e)}`);
  for (const e of all("table")) if (!e.querySelector("th[scope]") || !e.caption) faults.push(`no heads or caption: ${shown(e)}`);
  const ids = [...document.querySelectorAll("[id]")].map((e) => e.id);
  for (const id of new Set(ids.filter((id, at) => ids.indexOf(id) !== at))) faults.push(`twice: #${id}`);

  const canvas = document.createElement("canvas").getContext("2d", { willReadFrequently: true });
  const rgba = (text) => {
    canvas.clearRect(0, 0, 1, 1);
    canvas.fillStyle = text;
    canvas.fillRect(0, 0, 1, 1);
    const [r, g, b, a] = canvas.getImageData(0, 0, 1, 1).data;
    return [r, g, b, a / 255];
  };
  const over = (top, under) => top.slice(0, 3).map((c, at) => c * top[3] + under[at] * (1 - top[3])).concat(1);
  const ground = (e) => (e ? over(rgba(getComputedStyle(e).backgroundColor), ground(e.parentElement)) : [255, 255, 255, 1]);
  const light = (c) => {
    const [r, g, b] = c.slice(0, 3).map((v) => (v / 255 <= 0.04045 ? v / 255 / 12.92 : ((v / 255 + 0.055) / 1.055) ** 2.4));
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const said = new Set();
  for (const e of all("body *")) {
    const own = [...e.childNodes].some((n) => n.nodeType === 3 && n.data.trim());
    if (!own || e.closest("[aria-hidden=true],[aria-disabled=true],script,style,.unseen")) continue;
    const style = getComputedStyle(e);
    const under = ground(e);
    const colour = over(rgba(e.closest("svg") ? style.fill : style.color), under);
    const [a, b] = [light(colour), light(under)].sort((x, y) => y - x);
    const size = parseFloat(style.fontSize);
    const least = size >= 24 || (size >= 18.66 && Number(style.fontWeight) >= 700) ? 3 : 4.5;
    const ratio = (a + 0.05) / (b + 0.05);
    const key = `${e.localName}.${e.className?.baseVal ?? e.className}`;
    if (ratio < least && !said.has(key)) {
      said.add(key);
      faults.push(`contrast ${ratio.toFixed(2)} of ${shown(e)}`);
    }
  }
  if (document.documentElement.scrollWidth > innerWidth) faults.push(`wider than the screen: ${document.documentElement.scrollWidth}`);
  return faults;
}
