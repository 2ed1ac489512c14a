import { serve } from "./background.js";
import { BitsFusion } from "./bitsfusion.js";

serve(BitsFusion);
