import { DigitReader } from "./ascan.js";
import { serve } from "./background.js";

serve(DigitReader);
