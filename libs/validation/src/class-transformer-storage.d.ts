/** What class-transformer's decorators wrote down. The package ships its types elsewhere than its code. */
declare module 'class-transformer/cjs/storage' {
  export { defaultMetadataStorage } from 'class-transformer/types/storage';
}
