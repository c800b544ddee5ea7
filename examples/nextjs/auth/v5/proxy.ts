export { auth as proxy } from ".";
