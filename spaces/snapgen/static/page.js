import { openDesk } from "./drawing_desk.js";

await openDesk();
