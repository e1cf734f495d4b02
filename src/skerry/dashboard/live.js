// Shows HTML, and changes it in place: what has the focus keeps it, what is selected stays so, nothing jumps under the pointer.
function sync(from, to) {
  if (from.nodeType !== Node.ELEMENT_NODE) {
    if (from.data !== to.data) from.data = to.data;
    return;
  }
  for (const { name, value } of to.attributes) if (from.getAttribute(name) !== value) from.setAttribute(name, value);
  for (const { name } of [...from.attributes]) {
    if (!to.hasAttribute(name) && !(name === "open" && from.localName === "details")) from.removeAttribute(name);
  }
  children(from, to);
}

function alike(one, other) {
  return (
    one.nodeType === other.nodeType &&
    one.nodeName === other.nodeName &&
    (one.dataset?.key ?? "") === (other.dataset?.key ?? "")
  );
}

function children(from, to) {
  let at = from.firstChild;
  for (const next of [...to.childNodes]) {
    let found = at;
    while (found && !alike(found, next)) found = next.dataset?.key ? found.nextSibling : null;
    if (!found) {
      from.insertBefore(next, at);
      continue;
    }
    if (found === at) at = at.nextSibling;
    else from.insertBefore(found, at);
    sync(found, next);
  }
  while (at) {
    const gone = at;
    at = at.nextSibling;
    gone.remove();
  }
}

export default {
  template: `<component :is="tag"></component>`,
  props: { tag: String, inside: String },
  mounted() {
    this.$el.innerHTML = this.inside;
  },
  watch: {
    inside(value) {
      const fresh = document.createElement("template");
      fresh.innerHTML = value;
      children(this.$el, fresh.content);
    },
  },
};
