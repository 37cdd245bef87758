export { BackgroundWork } from './background-work';
