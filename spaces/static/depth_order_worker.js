// Sorts beside the page, so that turning a scene stays smooth: told `means` once, then an order for every `viewmat`.

import { DepthOrder } from "./depth_order.js";

let depths = null;

self.onmessage = ({ data: { means, viewmat } }) => {
  if (means) depths = new DepthOrder(means);
  const order = depths.farToNear(viewmat);
  self.postMessage(order, [order.buffer]);
};
