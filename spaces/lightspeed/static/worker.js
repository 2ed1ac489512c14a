import { serve } from "./background.js";
import { LightSpeed } from "./lightspeed.js";

serve(LightSpeed);
