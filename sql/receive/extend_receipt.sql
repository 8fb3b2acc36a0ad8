-- extend_receipt: hold the received job $1 under its receipt $2 for $3 from now on.
--
-- Returns 'extended' and until when; 'cancelled' if it is to be cancelled; null: the receipt has run out, or never was
-- one of it.

select pgqueue.extend($1, $2, $3::interval) as answer, now() + $3::interval as held_until
