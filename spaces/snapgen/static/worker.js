import { serve } from "./background.js";
import { SnapGen } from "./snapgen.js";

serve(SnapGen);
