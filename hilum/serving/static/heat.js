// The colours of a heat map: magma, whose steps are seen alike by everyone and stay in order on a grey print.

const STOPS = [
  [0, [59, 15, 112]],
  [0.45, [181, 54, 122]],
  [0.75, [251, 136, 97]],
  [1, [252, 253, 191]],
];

/** A grey map as a coloured picture (canvas); what is low is left see-through. */
export function painted(bitmap) {
  const canvas = new OffscreenCanvas(bitmap.width, bitmap.height);
  const context = canvas.getContext("2d");
  context.drawImage(bitmap, 0, 0);
  const frame = context.getImageData(0, 0, bitmap.width, bitmap.height);
  for (let at = 0; at < frame.data.length; at += 4) {
    const height = frame.data[at] / 255;
    frame.data.set([...colour(height), 255 * Math.min(1, height * 1.6)], at);
  }
  context.putImageData(frame, 0, 0);
  return canvas;
}

/** The colour of a height, 0 to 1. */
export function colour(height) {
  const above = Math.max(1, STOPS.findIndex(([stop]) => height <= stop));
  const [[low, from], [high, to]] = [STOPS[above - 1], STOPS[above]];
  const share = (height - low) / (high - low);
  return from.map((value, channel) => Math.round(value + share * (to[channel] - value)));
}
