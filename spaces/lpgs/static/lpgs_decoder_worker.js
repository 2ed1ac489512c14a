// Decodes beside the page: `load()` once, then `generate(bytes)`.

import { serve } from "./background.js";
import { decodeScene } from "./lpgs_decoder.js";

serve({ load: async () => ({ generate: decodeScene }) });
