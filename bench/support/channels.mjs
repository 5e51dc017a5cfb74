// Owns the names of the channels that are notified: alike but for their number, as those of rooms or orders are.
export const channelPrefix = 'room:';

/** @param {number} count */
export const channelNames = (count) => Array.from({ length: count }, (_, n) => channelPrefix + n);
