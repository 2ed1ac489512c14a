import { serve } from "./background.js";
import { ControlMM } from "./controlmm.js";

serve(ControlMM);
