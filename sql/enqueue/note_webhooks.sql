-- note_webhooks: have the ends of those of the new jobs $1 be told whose options say so.

select pgqueue.note_webhooks($1::text::uuid[])
