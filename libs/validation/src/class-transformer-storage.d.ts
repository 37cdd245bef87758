/** Metadata of class-transformer's decorators. The package keeps the types of this module apart from its code. */
declare module 'class-transformer/cjs/storage' {
  export { defaultMetadataStorage } from 'class-transformer/types/storage';
}
