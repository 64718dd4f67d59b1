// Names of findings offered while they are typed: a list completes a whole field, so each offer carries what stands before it.

/** field: names with commas between; list: its datalist of known names. Either may be missing. */
export function offerNames(field, list) {
  if (!field || !list) return;
  const names = [...list.options].map((option) => option.value);
  field.addEventListener("input", () => {
    const before = field.value.slice(0, field.value.lastIndexOf(",") + 1);
    const start = before && `${before.trim()} `;
    const given = new Set(before.split(",").map((name) => name.trim().toLowerCase()));
    const left = names.filter((name) => !given.has(name.toLowerCase()));
    list.replaceChildren(...left.map((name) => new Option(start + name, start + name)));
  });
}
