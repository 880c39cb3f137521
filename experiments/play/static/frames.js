// Frame messages: a JSON header and images as raw RGB or JPEG; see experiments/play/messages.py.

export function unpack(data) {
  const size = new DataView(data).getUint32(0, true);
  const message = JSON.parse(new TextDecoder().decode(new Uint8Array(data, 4, size)));
  let offset = 4 + size;
  const images = {};
  for (const image of message.images) {
    images[image.name] = { ...image, data: new Uint8Array(data, offset, image.size) };
    offset += image.size;
  }
  return { ...message, images };
}

export async function drawOn(canvas, image) {
  const { width, height, kind, data } = image;
  if (canvas.width !== width || canvas.height !== height) Object.assign(canvas, { width, height });
  const context = canvas.getContext("2d");
  if (kind === "jpeg") {
    const bitmap = await createImageBitmap(new Blob([data], { type: "image/jpeg" }));
    context.drawImage(bitmap, 0, 0);
    bitmap.close();
    return;
  }
  const pixels = context.createImageData(width, height), rgba = pixels.data;
  for (let from = 0, to = 0; from < data.length; from += 3, to += 4) {
    rgba[to] = data[from];
    rgba[to + 1] = data[from + 1];
    rgba[to + 2] = data[from + 2];
    rgba[to + 3] = 255;
  }
  context.putImageData(pixels, 0, 0);
}
