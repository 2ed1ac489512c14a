// Decodes beside the page: `new Background("./splat_decoder_worker.js")`, then `load()` once and `generate(bytes)`.

import { serve } from "./background.js";
import { decodeSplats } from "./splat_decoder.js";

serve({ load: async () => ({ generate: decodeSplats }) });
